// The twin of ../linear_cross_entropy.h on a GPU: what lies between the products, a block for
// each row. A row's sums run in an order that V alone fixes.
#pragma once

#include "types.h"

namespace seq2seq_ext::cuda {

template <typename T>
struct LossRows {
  int64_t rows, vocabulary;  // N, V
  double label_smoothing;
  const int64_t* target;  // [N]; a row whose target is outside [0, V) gets NaNs
  const bool* ignored;    // [N] whether loss and gradient are zero whatever the row holds; or null
  const Acc<T>* logits;   // [N, V]
  T* gradients;           // [N, V] out: of the row's loss; null, or the logits where T is Acc<T>
  double* losses;         // [N] out
};

template <typename T>
void loss_rows(const LossRows<T>&, Stream);

}  // namespace seq2seq_ext::cuda
