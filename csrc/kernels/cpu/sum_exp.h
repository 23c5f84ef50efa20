// Sums of exponentials, in float64, so that float32 log-probs carry only their own rounding.
#pragma once

#include "simd.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

inline VecD widen(VecF x, int half) {
  typedef float Half __attribute__((vector_size(kVectorBytes / 2)));
  Half lanes;
  __builtin_memcpy(&lanes, reinterpret_cast<const char*>(&x) + half * sizeof(Half), sizeof(Half));
  return __builtin_convertvector(lanes, VecD);
}

inline VecD sum_halves(VecF x) { return widen(x, 0) + widen(x, 1); }
inline VecD sum_halves(VecD x) { return x; }

// Of e^(logit - max) over logits[begin, end).
template <typename T>
double sum_exp(const T* logits, int64_t begin, int64_t end, T max) {
  constexpr int kLanes = Simd<T>::kLanes;
  const auto term = [&](int64_t i) { return exp(load(logits + i) - max); };
  VecD sum{};
  int64_t i = begin;
  // Widening costs as much as a third of an exp: once in four.
  for (; i + 4 * kLanes <= end; i += 4 * kLanes)
    sum += sum_halves((term(i) + term(i + kLanes)) + (term(i + 2 * kLanes) + term(i + 3 * kLanes)));
  for (; i + kLanes <= end; i += kLanes) sum += sum_halves(term(i));
  if (i < end) {
    const Vec<T> last = load_part(logits + i, end - i, broadcast(-T(__builtin_inf())));
    sum += sum_halves(exp(last - max));
  }
  return reduce_add<double>(sum);
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
