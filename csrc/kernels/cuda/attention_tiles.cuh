// The two loops that attention is made of, for a tile of kAttentionRows rows: scores against
// every row of the other side (a warp for each), and sums down columns (a thread for each).
// tanh is made again in backward; nothing of size T * S * A is ever stored.
#pragma once

#include "attention.h"
#include "device.cuh"

namespace seq2seq_ext::cuda {

constexpr int kRows = kAttentionRows;
constexpr int kAttentionThreads = 256;
constexpr int kAttentionWarps = kAttentionThreads / kWarp;
constexpr int kFeatures = 256;  // of the tile, staged at a time
constexpr int kDepth = 128;     // coefficients of a row, staged at a time

// Shared memory of either loop, in values.
constexpr int kAttentionShared = (kRows + 1) * kFeatures;
static_assert(kRows * kDepth <= kAttentionShared);

struct Product {
  template <typename A>
  __device__ static A score(A x, A y, A, A sum) {
    return fused(x, y, sum);
  }
  // Of a coefficient, a row's own value and the other side's: the term, and what it adds to v.
  template <typename A>
  __device__ static A term(A, A y, A, A&) {
    return y;
  }
};

struct TanhScore {
  template <typename A>
  __device__ static A score(A x, A y, A v, A sum) {
    return fused(v, tanh(x + y), sum);
  }
  // d tanh(x) = 1 - tanh(x)^2.
  template <typename A>
  __device__ static A term(A x, A y, A coefficient, A& v) {
    const A t = tanh(x + y);
    v = fused(coefficient, t, v);
    return fused(-t, t, A(1));
  }
};

template <typename T>
struct ScoreTile {
  const T* x;  // [rows, features]
  int64_t x_stride;
  int rows;    // at most kRows
  const T* y;  // [columns, features]
  int64_t y_stride, columns, features;
  const T* v;      // [features] or null
  Acc<T>* scores;  // [rows, columns]
  int64_t score_stride;
};

// scores[r][s] = sum_f score(x[r][f], y[s][f], v[f]).
template <class Term, typename T>
__device__ void score_tile(const ScoreTile<T>& tile, Acc<T>* shared) {
  using A = Acc<T>;
  A* const v = shared + kRows * kFeatures;
  const int lane = lane_index(), row = lane / (kWarp / kRows);
  int64_t first = 0;
  do {
    const int n = smaller(kFeatures, tile.features - first);
    sync_block();
    for (int i = thread_index(); i < kRows * kFeatures; i += kAttentionThreads) {
      const int r = i / kFeatures, f = i % kFeatures;
      const bool real = r < tile.rows && f < n;
      shared[i] = real ? to_acc(tile.x[r * tile.x_stride + first + f]) : A(0);
    }
    for (int f = thread_index(); f < n; f += kAttentionThreads)
      v[f] = tile.v ? to_acc(tile.v[first + f]) : A(1);
    sync_block();
    for (int64_t s = warp_index(); s < tile.columns; s += kAttentionWarps) {
      A sums[kRows] = {};
      for (int f = lane; f < n; f += kWarp) {
        const A y = to_acc(tile.y[s * tile.y_stride + first + f]);
#pragma unroll
        for (int r = 0; r < kRows; ++r)
          sums[r] = Term::score(shared[r * kFeatures + f], y, v[f], sums[r]);
      }
      const A sum = warp_sums(sums);
      A* const score = tile.scores + row * tile.score_stride + s;
      if (row < tile.rows && lane % (kWarp / kRows) == 0) *score = first == 0 ? sum : *score + sum;
    }
    first += kFeatures;
  } while (first < tile.features);
  sync_block();
}

template <typename T>
struct ColumnTile {
  const Acc<T>* c;  // coefficient of row r at depth d: c[r * row_stride + d * depth_stride]
  int64_t row_stride, depth_stride;
  const T* x;  // [rows, columns], of TanhScore only
  int64_t x_stride;
  int rows;                             // at most kRows
  const T* y;                           // [depth, columns]
  int64_t y_stride, depth, begin, end;  // columns
  const T* v;                           // [columns] factor, or null
  Acc<T> scale;                         // factor
  T* out;                               // [rows, columns]
  int64_t out_stride;
  Acc<T>* grad_v;  // [columns] or null
};

// out[r][j] = scale v[j] sum_d c(r, d) term(x[r][j], y[d][j]), in order of d.
template <class Term, typename T>
__device__ void column_tile(const ColumnTile<T>& tile, Acc<T>* shared) {
  using A = Acc<T>;
  for (int64_t first = tile.begin; first < tile.end; first += kAttentionThreads) {
    const int64_t j = first + thread_index();
    const bool real = j < tile.end;
    A x[kRows] = {}, sums[kRows] = {}, grad_v = 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (tile.x && real && r < tile.rows) x[r] = to_acc(tile.x[r * tile.x_stride + j]);
    for (int64_t d0 = 0; d0 < tile.depth; d0 += kDepth) {
      const int n = smaller(kDepth, tile.depth - d0);
      sync_block();
      for (int i = thread_index(); i < kRows * n; i += kAttentionThreads) {
        const int r = i % kRows, d = i / kRows;
        shared[i] =
            r < tile.rows ? tile.c[r * tile.row_stride + (d0 + d) * tile.depth_stride] : A(0);
      }
      sync_block();
      if (!real) continue;
      for (int d = 0; d < n; ++d) {
        const A y = to_acc(tile.y[(d0 + d) * tile.y_stride + j]);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const A c = shared[d * kRows + r];
          sums[r] = fused(c, Term::term(x[r], y, c, grad_v), sums[r]);
        }
      }
    }
    if (!real) continue;
    const A factor = tile.scale * (tile.v ? to_acc(tile.v[j]) : A(1));
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (r < tile.rows) tile.out[r * tile.out_stride + j] = from_acc<T>(factor * sums[r]);
    if (tile.grad_v) tile.grad_v[j] = grad_v;
  }
  sync_block();
}

}  // namespace seq2seq_ext::cuda
