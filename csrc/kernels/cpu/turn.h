// Matrices turned: what lies row by row comes to lie column by column.
#pragma once

#include "simd.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

// Four values, whatever the ISA: as many as a tile's height and a panel's width are made of.
template <typename T>
struct Four {
  typedef T Vec __attribute__((vector_size(4 * sizeof(T))));
};

// Four of the eight values of two vectors, by their places.
template <int a, int b, int c, int d, class V>
inline V pick(const V& x, const V& y) {
#ifdef __clang__
  return __builtin_shufflevector(x, y, a, b, c, d);
#else  // GCC has the other only since 12
  using Places = decltype(x < y);
  return __builtin_shuffle(x, y, Places{a, b, c, d});
#endif
}

template <typename T>
inline void copy_four(const T* from, T* to) {
  __builtin_memcpy(to, from, 4 * sizeof(T));
}

// to[k * stride + m] = from[m][k] for 4 rows m and 4 columns k.
template <typename T>
inline void turn_four(const T* const* from, int64_t k, T* to, int64_t stride) {
  typename Four<T>::Vec row[4];
  for (int m = 0; m < 4; ++m) __builtin_memcpy(&row[m], from[m] + k, sizeof(row[m]));
  const auto low01 = pick<0, 4, 1, 5>(row[0], row[1]), high01 = pick<2, 6, 3, 7>(row[0], row[1]);
  const auto low23 = pick<0, 4, 1, 5>(row[2], row[3]), high23 = pick<2, 6, 3, 7>(row[2], row[3]);
  const typename Four<T>::Vec column[4] = {
      pick<0, 1, 4, 5>(low01, low23), pick<2, 3, 6, 7>(low01, low23),
      pick<0, 1, 4, 5>(high01, high23), pick<2, 3, 6, 7>(high01, high23)};
  for (int m = 0; m < 4; ++m)
    __builtin_memcpy(to + (k + m) * stride, &column[m], sizeof(column[m]));
}

// to[k * stride + m] = from[m][k] for m < rows, k < depth. A cache line of each row at a time;
// where rows are no multiple of four, the last four of them take in some that are turned already.
template <typename T>
inline void turn(const T* const* from, int64_t rows, int64_t depth, T* to, int64_t stride) {
  constexpr int64_t kLine = 64 / sizeof(T);
  const int64_t whole = rows < 4 ? 0 : depth / 4 * 4;
  for (int64_t begin = 0; begin < whole; begin += kLine) {
    const int64_t end = whole < begin + kLine ? whole : begin + kLine;
    for (int64_t next = 0; next < rows; next += 4) {
      const int64_t m = next + 4 > rows ? rows - 4 : next;
      for (int64_t k = begin; k < end; k += 4) turn_four(from + m, k, to + m, stride);
    }
  }
  for (int64_t k = whole; k < depth; ++k)
    for (int64_t m = 0; m < rows; ++m) to[k * stride + m] = from[m][k];
}

// GemmKernels::turn.
template <typename T>
void turn_columns(const T* from, int64_t stride, int64_t rows, int64_t depth, T* to) {
  constexpr int64_t kFew = 64;
  const T* lines[kFew];
  for (int64_t begin = 0; begin < depth; begin += kFew) {
    const int64_t count = depth - begin < kFew ? depth - begin : kFew;
    for (int64_t k = 0; k < count; ++k) lines[k] = from + (begin + k) * stride;
    turn(lines, count, rows, to + begin, depth);
  }
}

// to[0 .. n) = from[0 .. n), n small.
template <typename T>
inline void copy_few(const T* from, int64_t n, T* to) {
  if (n < 4) {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
    return;
  }
  for (int64_t i = 0; i + 4 < n; i += 4) copy_four(from + i, to + i);
  copy_four(from + n - 4, to + n - 4);
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
