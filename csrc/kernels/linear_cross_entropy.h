// Cross-entropy with label smoothing over rows of logits z: what lies between the products of
// a linear layer's loss. With e = label_smoothing, V logits and y the target,
//   loss       = logsumexp(z) - (1 - e) z_y - e mean(z)
//   d loss/dz_v = softmax(z)_v - (1 - e) [v = y] - e / V
//
// A row is read in stretches of kLossLogits, whoever reads them, so its bits depend on nothing
// but itself.
#pragma once

#include <cstdint>

namespace seq2seq_ext {

constexpr int64_t kLossLogits = 512;

// What a stretch of a row adds to its loss.
struct LossPart {
  double max;      // NaN if the stretch holds one
  double sum_exp;  // of e^(z - max)
  double sum;      // of z
};

template <typename T>
struct LossGradient {
  T log_sum_exp;  // of the row; finite
  T scale;        // of the row's gradient
  T uniform;      // e / V
  T on_target;    // 1 - e
};

template <typename T>
struct LinearCrossEntropyKernels {
  LossPart (*part)(const T* logits, int64_t n);
  // Logits [n] become their gradients. target: the place of y among them, or outside. next: as
  // many that are wanted soon, asked for meanwhile.
  void (*gradient)(const LossGradient<T>&, int64_t target, T* logits, int64_t n, const T* next);
  // sums[n] += rows' values, one row after the other, stride apart.
  void (*add_rows)(const T* rows, int64_t count, int64_t stride, T* sums, int64_t n);
};

}  // namespace seq2seq_ext
