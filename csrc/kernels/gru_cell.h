// GRU (Cho et al. 2014, in torch.nn.GRU's form: the reset gate after the product):
//   r, z = sigmoid(...)   n = tanh(x_n + r * h_n)   h' = (1 - z) * n + z * h
#pragma once

#include "cell.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

struct GruCell {
  static constexpr int kGates = 3, kSaved = 4;
  static constexpr bool kHasCell = false, kReadsState = true, kSplit = true;
  SEQ2SEQ_EXT_CELL static constexpr bool gate_is_split(int gate) { return gate == 2; }

  template <typename T>
  SEQ2SEQ_EXT_CELL static Vec<T> forward(const Vec<T>* x, const Vec<T>* h, Vec<T> h_prev, Vec<T>&,
                                         Vec<T>* saved) {
    const Vec<T> r = sigmoid(x[0] + h[0]);
    const Vec<T> z = sigmoid(x[1] + h[1]);
    const Vec<T> n = tanh(x[2] + r * h[2]);
    saved[0] = r, saved[1] = z, saved[2] = n, saved[3] = h[2];
    return (h_prev - n) * z + n;
  }

  template <typename T>
  SEQ2SEQ_EXT_CELL static void backward(CellGradient<GruCell, T>& d) {
    const Vec<T> r = d.saved[0], z = d.saved[1], n = d.saved[2], h_n = d.saved[3];
    const Vec<T> grad_n = d.grad_h * (T(1) - z) * (T(1) - n * n);
    d.grad_x[0] = grad_n * h_n * r * (T(1) - r);
    d.grad_x[1] = d.grad_h * (d.h_prev - n) * z * (T(1) - z);
    d.grad_x[2] = grad_n;
    d.grad_gate_h[0] = d.grad_x[0];
    d.grad_gate_h[1] = d.grad_x[1];
    d.grad_gate_h[2] = grad_n * r;
    d.grad_h_prev = d.grad_h * z;
  }
};

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
