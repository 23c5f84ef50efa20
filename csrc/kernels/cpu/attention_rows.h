// What both attentions share: softmax over a row, and the two products between short lists of
// rows. A product is blocked over rows so that a row of memory is loaded once for several
// queries; each result is still its own chain, the same for every blocking.
#pragma once

#include "../attention.h"
#include "gemm_tile.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

// Calls body.template operator()<rows>(), rows in 1..kMost, so that it can unroll.
template <int kMost, class Body>
inline void with_count(int64_t rows, const Body& body) {
  if constexpr (kMost > 1)
    if (rows < kMost) return with_count<kMost - 1>(rows, body);
  body.template operator()<kMost>();
}

template <typename T>
inline void zero(T* row, int64_t n) {
  __builtin_memset(row, 0, n * sizeof(T));
}

// row[0, n) becomes its softmax, row[n, size) zero.
template <typename T>
void masked_softmax(T* row, int64_t n, int64_t size) {
  constexpr int kLanes = Simd<T>::kLanes;
  zero(row + n, size - n);
  if (n == 0) return;
  T top = row[0];
  for (int64_t s = 1; s < n; ++s) top = row[s] > top ? row[s] : top;
  Vec<T> sums{};
  for (int64_t s = 0; s < n; s += kLanes) {
    store_n(row + s, exp(load_n(row + s, n - s) - top), n - s);
    sums += load_n(row + s, n - s);
  }
  const T sum = reduce_add<T>(sums);
  for (int64_t s = 0; s < n; s += kLanes) store_n(row + s, load_n(row + s, n - s) / sum, n - s);
}

// out[r][c] = scale * x[r] . y[c].
template <typename T>
struct InnerProducts {
  Rows<const T> x, y;
  int64_t rows, columns, features;
  T scale;
  T* out;
  int64_t out_stride;
};

template <int kRows, int kColumns, typename T>
inline void inner_tile(const InnerProducts<T>& p, int64_t row, int64_t column) {
  constexpr int kLanes = Simd<T>::kLanes;
  const T* x = p.x.data + row * p.x.stride;
  const T* y = p.y.data + column * p.y.stride;
  Vec<T> acc[kRows][kColumns] = {};
  const auto add = [&](const auto& load_at) {
    Vec<T> b[kColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) b[c] = load_at(y + c * p.y.stride);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Vec<T> a = load_at(x + r * p.x.stride);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) acc[r][c] = multiply_add(a, b[c], acc[r][c]);
    }
  };
  int64_t i = 0;
  for (; i + kLanes <= p.features; i += kLanes) add([i](const T* from) { return load(from + i); });
  if (i < p.features) add([&](const T* from) { return load_n(from + i, p.features - i); });
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c)
      p.out[(row + r) * p.out_stride + column + c] = p.scale * reduce_add<T>(acc[r][c]);
}

template <typename T>
void inner_products(const InnerProducts<T>& p) {
  constexpr int kMostRows = 4;
  for (int64_t row = 0; row < p.rows; row += kMostRows)
    with_count<kMostRows>(p.rows - row, [&]<int kRows>() {
      // Eight chains in flight hide the latency of a multiply-add.
      constexpr int kColumns = kRows <= 2 ? 4 : 2;
      int64_t column = 0;
      for (; column + kColumns <= p.columns; column += kColumns)
        inner_tile<kRows, kColumns>(p, row, column);
      for (; column < p.columns; ++column) inner_tile<kRows, 1>(p, row, column);
    });
}

// out[r][j] = sum_d c[r][d] * x[d][j], in order of d, for columns j in [begin, end).
template <typename T>
struct WeightedSums {
  const T* c;  // c[r][d] is c[r * row_stride + d * depth_stride]
  int64_t row_stride, depth_stride;
  Rows<const T> x;
  int64_t rows, depth, begin, end;
  T* out;
  int64_t out_stride;
};

// The last of the kVecs vectors holds n columns.
template <int kRows, int kVecs, typename T>
inline void weighted_tile(const WeightedSums<T>& p, int64_t row, int64_t column, int64_t n) {
  constexpr int kLanes = Simd<T>::kLanes;
  const T* c = p.c + row * p.row_stride;
  const T* x = p.x.data + column;
  Vec<T> acc[kRows][kVecs] = {};
  for (int64_t d = 0; d < p.depth; ++d, c += p.depth_stride, x += p.x.stride) {
    Vec<T> values[kVecs];
#pragma GCC unroll 4
    for (int i = 0; i < kVecs - 1; ++i) values[i] = load(x + i * kLanes);
    values[kVecs - 1] = load_n(x + (kVecs - 1) * kLanes, n);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const Vec<T> weight = broadcast(c[r * p.row_stride]);
#pragma GCC unroll 4
      for (int i = 0; i < kVecs; ++i) acc[r][i] = multiply_add(weight, values[i], acc[r][i]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    T* out = p.out + (row + r) * p.out_stride + column;
#pragma GCC unroll 4
    for (int i = 0; i < kVecs - 1; ++i) store(out + i * kLanes, acc[r][i]);
    store_n(out + (kVecs - 1) * kLanes, acc[r][kVecs - 1], n);
  }
}

template <typename T>
void weighted_sums(const WeightedSums<T>& p) {
  constexpr int kLanes = Simd<T>::kLanes;
  for (int64_t row = 0, height; row < p.rows; row += height) {
    height = tile_height(p.rows - row);
    with_count<kTileRows>(height, [&]<int kRows>() {
      constexpr int kVecs = kRows <= 2 ? 4 : 2;
      int64_t j = p.begin;
      for (; j + kVecs * kLanes <= p.end; j += kVecs * kLanes)
        weighted_tile<kRows, kVecs>(p, row, j, kLanes);
      for (; j < p.end; j += kLanes) weighted_tile<kRows, 1>(p, row, j, p.end - j);
    });
  }
}

// The masked rows [length, S) of a gradient, columns [begin, end) of width.
template <typename T>
void zero_masked_rows(const AttentionSizes& s, T* grad, int64_t width, int64_t begin, int64_t end) {
  for (int64_t row = s.length; row < s.source; ++row) zero(grad + row * width + begin, end - begin);
}

// Weights hold scores on entry.
template <typename T>
void finish_forward(const AttentionForward<T>& f) {
  const AttentionSizes& s = f.in.sizes;
  for (int64_t t = 0; t < s.queries; ++t)
    masked_softmax(f.weights + t * s.source, s.length, s.source);
  weighted_sums<T>({f.weights, s.source, 1, f.in.memory, s.queries, s.length, 0, s.memory,
                    f.context.data, f.context.stride});
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
