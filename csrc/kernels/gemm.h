// Packed matrix product: C[m][n] (+)= sum_k A[m][k] B[k][n].
//
// B is packed once, in one of the weight types, into panels of panel_width columns, the last one
// padded with zeros. Rows of A that are not encoded, and of C, are reached through pointers, so
// gathers, scatters and strided batches need no copy.
//
//   float32 (float64)   B as it is. Rows of A are read as they are.
//   bfloat16            B rounded to the nearest. Rows of A are rounded too when encoded; the
//                       products are exact, the sums float32. The tile unit sums 32 depths, the
//                       even and the odd ones apart, before it adds them to what it has.
//   int8                B[k][n] = scale[n] * q, q in [-127, 127], scale[n] = max_k |B[k][n]| / 127.
//                       Rows of A the same when encoded, each with a scale of its own. The sum of
//                       the products of q is exact (K <= 131072).
// A value that is not finite makes its int8 column or row NaN.
//
// Every element of C is a sum of chains of multiply-adds, one for each block of k, in order
// of k, whatever M is and whichever rows share its tile: a row's bits never depend on its
// batch. How a panel and an encoded row look inside depends on the ISA: cpu/weight_types.h,
// cpu/bfloat16_weights.h, cpu/int8_weights.h.
#pragma once

#include <cstdint>

#include "weights.h"

namespace seq2seq_ext {

// B for packing: element (k, n) is data[k * k_stride + n * n_stride], one of the strides 1, or,
// when rows is set, rows[k][n].
template <typename T>
struct PackSource {
  const T* data;
  int64_t k_stride, n_stride;
  const T* const* rows = nullptr;
};

template <typename T>
struct Gemm {
  int64_t depth;         // K
  int64_t columns;       // N
  const void* const* a;  // a[m] -> a row that encode wrote, each as far behind the one before;
                         // T [K], a_stride apart, if !encodes
  const void* panels;    // what pack wrote
  T* const* c;           // c[m] -> [N], contiguous; may not overlap a or b
  const T* bias;         // [N], added when accumulate is false; may be null
  bool accumulate;       // start from what C holds
  int64_t a_stride = 1;  // 1, or the row size of a matrix whose transpose A is: its columns lie
                         // side by side, a[m] = a[0] + m; 1 if encodes
};

template <typename T>
struct GemmKernels {
  int64_t panel_width;
  int64_t (*panel_bytes)(int64_t depth);
  // Writes ceil(N / panel_width) * panel_bytes(K) bytes; a panel of it lies panel_bytes(K) after
  // the one before.
  void (*pack)(const PackSource<T>& b, int64_t depth, int64_t columns, void* panels);
  bool encodes;  // whether multiply reads encoded rows, or the T themselves
  int64_t (*row_bytes)(int64_t depth);
  // One row of A, elements stride apart, as multiply reads it: row_bytes(K) bytes.
  void (*encode)(const T* row, int64_t stride, int64_t depth, void* encoded);
  // Rows [rows][depth] of what lies column by column: to[m * depth + k] = from[k * stride + m].
  void (*turn)(const T* from, int64_t stride, int64_t rows, int64_t depth, T* to);
  // Computes rows [row_begin, row_end) and panels [panel_begin, panel_end).
  void (*multiply)(const Gemm<T>&, int64_t row_begin, int64_t row_end, int64_t panel_begin,
                   int64_t panel_end);
};

}  // namespace seq2seq_ext
