// Packed matrix product: C[m][n] (+)= sum_k A[m][k] B[k][n].
//
// B is packed once into panels of panel_width columns: [ceil(N/width)][K][width],
// the last panel padded with zeros. Rows of A and C are reached through pointers, so
// gathers, scatters and strided batches need no copy.
//
// Every element of C is a sum of chains of multiply-adds, one for each block of k, in order
// of k, whatever M is and whichever rows share its tile: a row's bits never depend on its
// batch.
#pragma once

#include <cstdint>

namespace seq2seq_ext {

// B for packing: element (k, n) is data[k * k_stride + n * n_stride], or, when rows is
// set, rows[k][n].
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
  const T* const* a;     // a[m] -> [K], a_stride apart
  const T* panels;       // packed B
  T* const* c;           // c[m] -> [N], contiguous; may not overlap a or b
  const T* bias;         // [N], added when accumulate is false; may be null
  bool accumulate;       // start from what C holds
  int64_t a_stride = 1;  // 1, or the row size of a matrix whose transpose A is
};

template <typename T>
struct GemmKernels {
  int64_t panel_width;
  // Writes ceil(N / panel_width) * K * panel_width values.
  void (*pack)(const PackSource<T>& b, int64_t depth, int64_t columns, T* panels);
  // Computes rows [row_begin, row_end) and panels [panel_begin, panel_end).
  void (*multiply)(const Gemm<T>&, int64_t row_begin, int64_t row_end, int64_t panel_begin,
                   int64_t panel_end);
};

}  // namespace seq2seq_ext
