// How a recurrent layer's weights are packed, for forward and for backward.
#pragma once

#include "../recurrent.h"
#include "gemm_tile.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

// Where everything lies in the packed weights of forward: bytes from their begin.
template <class Cell, class W>
struct PackedForward {
  using T = typename W::T;
  int64_t weight_ih, weight_hh, bias_x, bias_h, weight_hr, size;

  explicit PackedForward(const RecurrentSizes& s) {
    const int64_t panels = panel_count<T>(s.hidden) * Cell::kGates;
    const int64_t biases = lines(panels * kPanelWidth<T> * sizeof(T));
    const int64_t projection = panel_count<T>(s.output) * panel_bytes<W>(s.hidden);
    weight_ih = 0;
    weight_hh = weight_ih + lines(panels * panel_bytes<W>(s.input));
    bias_x = weight_hh + lines(panels * panel_bytes<W>(s.output));
    bias_h = bias_x + biases;
    weight_hr = bias_h + biases;
    size = weight_hr + (s.projected ? lines(projection) : 0);
  }
};

template <class Cell, class W>
int64_t packed_forward_size(const RecurrentSizes& sizes) {
  return PackedForward<Cell, W>(sizes).size;
}

// A panel whose columns are the first rows of weight [columns, depth]. Returns the place of the
// next one.
template <class W>
void* pack_columns(const typename W::T* weight, int64_t columns, int64_t depth, void* panel) {
  const int64_t width = smaller(columns, kPanelWidth<typename W::T>);
  pack_panel<W>(Columns<typename W::T>{weight, depth}, depth, width, panel);
  return behind<char>(panel, panel_bytes<W>(depth));
}

// weight [G*H, depth] -> panels [block][gate], zero past H.
template <class Cell, class W>
void pack_gates(const typename W::T* weight, int64_t hidden, int64_t depth, void* panels) {
  for (int64_t unit = 0; unit < hidden; unit += kPanelWidth<typename W::T>)
    for (int64_t gate = 0; gate < Cell::kGates; ++gate)
      panels =
          pack_columns<W>(weight + (gate * hidden + unit) * depth, hidden - unit, depth, panels);
}

template <class Cell, class W>
void pack_forward(const RecurrentSizes& s, const RecurrentWeights<typename W::T>& w, void* packed) {
  using T = typename W::T;
  constexpr int64_t kWidth = kPanelWidth<T>;
  const PackedForward<Cell, W> at(s);
  pack_gates<Cell, W>(w.weight_ih, s.hidden, s.input, behind<char>(packed, at.weight_ih));
  pack_gates<Cell, W>(w.weight_hh, s.hidden, s.output, behind<char>(packed, at.weight_hh));
  T* bias_x = behind<T>(packed, at.bias_x);
  T* bias_h = behind<T>(packed, at.bias_h);
  for (int64_t block = 0; block < panel_count<T>(s.hidden); ++block)
    for (int64_t gate = 0; gate < Cell::kGates; ++gate)
      for (int64_t j = 0; j < kWidth; ++j, ++bias_x, ++bias_h) {
        const int64_t unit = block * kWidth + j;
        const bool real = w.bias_ih && unit < s.hidden;
        const T x = real ? w.bias_ih[gate * s.hidden + unit] : T(0);
        const T h = real ? w.bias_hh[gate * s.hidden + unit] : T(0);
        *bias_x = Cell::gate_is_split(gate) ? x : x + h;
        *bias_h = Cell::gate_is_split(gate) ? h : T(0);
      }
  if (!s.projected) return;
  void* panels = behind<char>(packed, at.weight_hr);
  for (int64_t n = 0; n < s.output; n += kWidth)
    panels = pack_columns<W>(w.weight_hr + n * s.hidden, s.output - n, s.hidden, panels);
}

// The same of backward.
template <class Cell, class W>
struct PackedBackward {
  using T = typename W::T;
  int64_t weight_hh, weight_hr, size;

  explicit PackedBackward(const RecurrentSizes& s) {
    const int64_t projection = panel_count<T>(s.hidden) * panel_bytes<W>(s.output);
    weight_hh = 0;
    weight_hr = lines(panel_count<T>(s.output) * panel_bytes<W>(Cell::kGates * s.hidden));
    size = weight_hr + (s.projected ? lines(projection) : 0);
  }
};

template <class Cell, class W>
int64_t packed_backward_size(const RecurrentSizes& sizes) {
  return PackedBackward<Cell, W>(sizes).size;
}

// B[k][n] = weight[k][n] -> panels.
template <class W>
void pack_rows(const typename W::T* weight, int64_t depth, int64_t columns, void* panels) {
  for (int64_t n = 0; n < columns; n += kPanelWidth<typename W::T>) {
    pack_panel<W>([=](int64_t k, int64_t j) { return weight[k * columns + n + j]; }, depth,
                  columns - n, panels);
    panels = behind<char>(panels, panel_bytes<W>(depth));
  }
}

template <class Cell, class W>
void pack_backward(const RecurrentSizes& s, const RecurrentWeights<typename W::T>& w,
                   void* packed) {
  const PackedBackward<Cell, W> at(s);
  pack_rows<W>(w.weight_hh, Cell::kGates * s.hidden, s.output, behind<char>(packed, at.weight_hh));
  if (s.projected)
    pack_rows<W>(w.weight_hr, s.output, s.hidden, behind<char>(packed, at.weight_hr));
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
