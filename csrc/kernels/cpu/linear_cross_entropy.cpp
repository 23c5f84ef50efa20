#include "../linear_cross_entropy.h"

#include "sum_exp.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

namespace {

template <typename T>
LossPart part(const T* logits, int64_t n) {
  constexpr int kLanes = Simd<T>::kLanes;
  constexpr T kLowest = -T(__builtin_inf());
  Vec<T> maxima = broadcast(kLowest), nans{};
  VecD sums{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec<T> z = load(logits + i);
    maxima = z > maxima ? z : maxima;
    nans = z == z ? nans : z;
    sums += sum_halves(z);
  }
  T max = reduce_max<T>(maxima);
  double sum = reduce_add<double>(sums);
  T nan = reduce_add<T>(nans);
  for (; i < n; ++i) {
    max = logits[i] > max ? logits[i] : max;
    nan = logits[i] == logits[i] ? nan : logits[i];
    sum += logits[i];
  }
  if (nan != nan) return {nan, 0, nan};
  return {max, max == kLowest ? 0 : sum_exp(logits, 0, n, max), sum};
}

template <typename T>
void gradient(const LossGradient<T>& g, int64_t target, T* logits, int64_t n, const T* next) {
  for (int64_t i = 0; i < n; i += Simd<T>::kLanes) {
    __builtin_prefetch(next + i, 1);
    const Vec<T> probability = exp(load_n(logits + i, n - i) - g.log_sum_exp);
    store_n(logits + i, g.scale * (probability - g.uniform), n - i);
  }
  if (target >= 0 && target < n) logits[target] -= g.scale * g.on_target;
}

// In chains of kChain, so that rounding errors grow with the chain and the number of chains.
template <typename T>
void add_rows(const T* rows, int64_t count, int64_t stride, T* sums, int64_t n) {
  constexpr int64_t kChain = 32;
  for (int64_t first = 0; first < count; first += kChain, rows += kChain * stride)
    for (int64_t i = 0; i < n; i += Simd<T>::kLanes) {
      Vec<T> chain{};
      for (int64_t row = 0; row < kChain && first + row < count; ++row)
        chain += load_n(rows + row * stride + i, n - i);
      store_n(sums + i, load_n(sums + i, n - i) + chain, n - i);
    }
}

}  // namespace

template <typename T>
LinearCrossEntropyKernels<T> linear_cross_entropy_kernels() {
  return {part<T>, gradient<T>, add_rows<T>};
}

template LinearCrossEntropyKernels<float> linear_cross_entropy_kernels();
template LinearCrossEntropyKernels<double> linear_cross_entropy_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
