// What lies between the products of a decoder's step, a row at a time.
#include "../attentional_decoder.h"

#include "../gru_cell.h"
#include "../lstm_cell.h"
#include "../rnn_cell.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

namespace {

template <class Cell>
constexpr int merged_gates() {
  int merged = 0;
  while (merged < Cell::kGates && !Cell::gate_is_split(merged)) ++merged;
  return merged;
}

template <class Cell, typename T>
void cell_forward(int64_t hidden, T* saved, const T* h_prev, const T* c_prev, T* h) {
  constexpr int kMerged = merged_gates<Cell>();
  for (int64_t unit = 0; unit < hidden; unit += Simd<T>::kLanes) {
    const int64_t n = hidden - unit;
    Vec<T> x[Cell::kGates], of_h[Cell::kGates] = {}, keep[Cell::kSaved], c{}, previous{};
    for (int g = 0; g < Cell::kGates; ++g) x[g] = load_n(saved + g * hidden + unit, n);
    for (int g = kMerged; g < Cell::kGates; ++g)
      of_h[g] = load_n(saved + (Cell::kGates + g - kMerged) * hidden + unit, n);
    if (Cell::kHasCell) c = load_n(c_prev + unit, n);
    if (Cell::kReadsState) previous = load_n(h_prev + unit, n);
    store_n(h + unit, Cell::template forward<T>(x, of_h, previous, c, keep), n);
    for (int k = 0; k < Cell::kSaved; ++k) store_n(saved + k * hidden + unit, keep[k], n);
  }
}

template <class Cell, typename T>
void cell_backward(const DecoderCellGradient<T>& d) {
  constexpr int kMerged = merged_gates<Cell>();
  for (int64_t unit = 0; unit < d.hidden; unit += Simd<T>::kLanes) {
    const int64_t n = d.hidden - unit;
    CellGradient<Cell, T> g{};
    for (int k = 0; k < Cell::kSaved; ++k) g.saved[k] = load_n(d.saved + k * d.hidden + unit, n);
    g.grad_h = load_n(d.grad_h + unit, n);
    if (Cell::kReadsState) g.h_prev = load_n(d.h_prev + unit, n);
    if (Cell::kHasCell) {
      g.c_prev = load_n(d.c_prev + unit, n);
      g.grad_c = load_n(d.grad_c + unit, n);
    }
    Cell::backward(g);
    for (int k = 0; k < Cell::kGates; ++k)
      store_n(d.grad_gates + k * d.hidden + unit, g.grad_x[k], n);
    for (int k = kMerged; k < Cell::kGates; ++k)
      store_n(d.grad_split + (k - kMerged) * d.hidden + unit, g.grad_gate_h[k], n);
    if (Cell::kHasCell) store_n(d.grad_c + unit, g.grad_c, n);
    store_n(d.grad_h + unit, Cell::kReadsState ? g.grad_h_prev : Vec<T>{}, n);
  }
}

template <typename T>
Vec<T> mask_at(const T* mask, int64_t i, int64_t n) {
  return mask ? load_n(mask + i, n - i) : broadcast(T(1));
}

template <typename T>
void apply_mask(int64_t n, const T* from, const T* mask, T* to) {
  for (int64_t i = 0; i < n; i += Simd<T>::kLanes)
    store_n(to + i, mask_at(mask, i, n) * load_n(from + i, n - i), n - i);
}

template <typename T>
void add_masked(int64_t n, const T* from, const T* mask, T* to) {
  for (int64_t i = 0; i < n; i += Simd<T>::kLanes)
    store_n(to + i,
            multiply_add(mask_at(mask, i, n), load_n(from + i, n - i), load_n(to + i, n - i)),
            n - i);
}

template <typename T>
void finish_vector(int64_t n, T* vector, const T* mask, T* output) {
  for (int64_t i = 0; i < n; i += Simd<T>::kLanes) {
    const Vec<T> value = tanh(load_n(vector + i, n - i));
    store_n(vector + i, value, n - i);
    store_n(output + i, mask_at(mask, i, n) * value, n - i);
  }
}

template <typename T>
void vector_gradient(int64_t n, const T* vector, const T* mask, T* grad) {
  for (int64_t i = 0; i < n; i += Simd<T>::kLanes) {
    const Vec<T> value = load_n(vector + i, n - i);
    const Vec<T> of_value = mask_at(mask, i, n) * load_n(grad + i, n - i);
    store_n(grad + i, of_value * (T(1) - value * value), n - i);
  }
}

template <class Cell, typename T>
DecoderCell<T> decoder_cell() {
  return {Cell::kGates,   merged_gates<Cell>(),  Cell::kSaved,
          Cell::kHasCell, cell_forward<Cell, T>, cell_backward<Cell, T>};
}

}  // namespace

template <typename T>
AttentionalDecoderKernels<T> attentional_decoder_kernels() {
  return {decoder_cell<LstmCell, T>(),
          decoder_cell<GruCell, T>(),
          decoder_cell<RnnCell<Tanh>, T>(),
          decoder_cell<RnnCell<Relu>, T>(),
          apply_mask<T>,
          add_masked<T>,
          finish_vector<T>,
          vector_gradient<T>};
}

template AttentionalDecoderKernels<float> attentional_decoder_kernels();
template AttentionalDecoderKernels<double> attentional_decoder_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
