// The twin of ../gemm.h on a GPU: C = A B^T + bias, with B as it is. Every element of C is a sum
// whose order follows from the depth alone, so a row's bits never depend on the rows beside it.
#pragma once

#include "types.h"

namespace seq2seq_ext::cuda {

// A row that is not there: it reads as zeros, and nothing is written to it.
constexpr int64_t kNoRow = INT64_MIN;

// Rows of contiguous features. Row i is number n = places[i], or i without places, and lies at
// (n / inner, n % inner).
template <typename T>
struct PlacedRows {
  T* data;
  const int64_t* places;
  int64_t inner, outer_stride, inner_stride;
};

template <typename T>
PlacedRows<T> matrix(T* data, int64_t stride) {
  return {data, nullptr, 1, stride, 0};
}

template <typename T>
struct Gemm {
  int64_t rows, columns, depth;
  PlacedRows<const T> a;  // [rows, depth]
  const T* b;             // [columns, depth]
  int64_t b_stride;       // from one row of B to the next
  const Acc<T>* bias;     // [columns] or null
};

// c: [rows, columns] of T, or of Acc<T> if wide. tf32: float may be rounded to TF32.
template <typename T>
void gemm(const Gemm<T>&, void* c, bool wide, bool tf32, Stream);

}  // namespace seq2seq_ext::cuda
