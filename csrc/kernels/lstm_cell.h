// LSTM (Hochreiter & Schmidhuber 1997, with forget gate; torch.nn.LSTM's form):
//   i, f, o = sigmoid(...)   g = tanh(...)
//   c' = f * c + i * g       h' = o * tanh(c')
#pragma once

#include "cell.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

struct LstmCell {
  static constexpr int kGates = 4, kSaved = 5;
  static constexpr bool kHasCell = true, kReadsState = false, kSplit = false;
  SEQ2SEQ_EXT_CELL static constexpr bool gate_is_split(int) { return false; }

  template <typename T>
  SEQ2SEQ_EXT_CELL static Vec<T> forward(const Vec<T>* x, const Vec<T>* h, Vec<T>, Vec<T>& c,
                                         Vec<T>* saved) {
    const Vec<T> i = sigmoid(x[0] + h[0]);
    const Vec<T> f = sigmoid(x[1] + h[1]);
    const Vec<T> g = tanh(x[2] + h[2]);
    const Vec<T> o = sigmoid(x[3] + h[3]);
    c = f * c + i * g;
    saved[0] = i, saved[1] = f, saved[2] = g, saved[3] = o, saved[4] = c;
    return o * tanh(c);
  }

  template <typename T>
  SEQ2SEQ_EXT_CELL static void backward(CellGradient<LstmCell, T>& d) {
    const Vec<T> i = d.saved[0], f = d.saved[1], g = d.saved[2], o = d.saved[3];
    const Vec<T> tanh_c = tanh(d.saved[4]);
    const Vec<T> grad_c = d.grad_c + d.grad_h * o * (T(1) - tanh_c * tanh_c);
    d.grad_x[0] = grad_c * g * i * (T(1) - i);
    d.grad_x[1] = grad_c * d.c_prev * f * (T(1) - f);
    d.grad_x[2] = grad_c * i * (T(1) - g * g);
    d.grad_x[3] = d.grad_h * tanh_c * o * (T(1) - o);
    d.grad_c = grad_c * f;
    d.h = o * tanh_c;
  }
};

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
