// Elman RNN (torch.nn.RNN): h' = tanh(...) or relu(...).
#pragma once

#include "cell.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

struct Tanh {
  template <typename T>
  SEQ2SEQ_EXT_CELL static Vec<T> value(Vec<T> x) {
    return tanh(x);
  }
  template <typename T>
  SEQ2SEQ_EXT_CELL static Vec<T> derivative(Vec<T> y) {
    return T(1) - y * y;
  }
};

struct Relu {
  // NaN passes through, as in torch.relu.
  template <typename T>
  SEQ2SEQ_EXT_CELL static Vec<T> value(Vec<T> x) {
    return x < T(0) ? Vec<T>{} : x;
  }
  template <typename T>
  SEQ2SEQ_EXT_CELL static Vec<T> derivative(Vec<T> y) {
    return y > T(0) ? broadcast(T(1)) : Vec<T>{};
  }
};

template <class Activation>
struct RnnCell {
  static constexpr int kGates = 1, kSaved = 1;
  static constexpr bool kHasCell = false, kReadsState = false, kSplit = false;
  SEQ2SEQ_EXT_CELL static constexpr bool gate_is_split(int) { return false; }

  template <typename T>
  SEQ2SEQ_EXT_CELL static Vec<T> forward(const Vec<T>* x, const Vec<T>* h, Vec<T>, Vec<T>&,
                                         Vec<T>* saved) {
    saved[0] = Activation::template value<T>(x[0] + h[0]);
    return saved[0];
  }

  template <typename T>
  SEQ2SEQ_EXT_CELL static void backward(CellGradient<RnnCell, T>& d) {
    d.grad_x[0] = d.grad_h * Activation::template derivative<T>(d.saved[0]);
  }
};

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
