// Products around the kernels: rows as the GEMM takes them, packing over all threads, and the
// two products of a linear map's backward.
#pragma once

#include <algorithm>
#include <vector>

#include "huge_tensor.h"
#include "kernels/isa.h"
#include "parallel.h"

namespace seq2seq_ext {

template <typename T>
std::vector<T*> matrix_rows(T* data, int64_t rows, int64_t stride) {
  std::vector<T*> pointers(rows);
  for (int64_t i = 0; i < rows; ++i) pointers[i] = data + i * stride;
  return pointers;
}

template <typename T>
std::vector<const void*> a_rows(const T* data, int64_t rows, int64_t stride) {
  std::vector<const void*> pointers(rows);
  for (int64_t i = 0; i < rows; ++i) pointers[i] = data + i * stride;
  return pointers;
}

// All panels of b, over all threads.
template <typename T>
at::Tensor pack_panels(const GemmKernels<T>& gemm, const PackSource<T>& b, int64_t depth,
                       int64_t columns) {
  const int64_t width = gemm.panel_width, panels = (columns + width - 1) / width;
  const at::Tensor packed = scratch_empty(panels * gemm.panel_bytes(depth));
  char* const to = static_cast<char*>(packed.data_ptr());
  parallel(panels, 1 + 65536 / (depth * width + 1), [&](int64_t p) {
    PackSource<T> part = b;
    std::vector<const T*> rows;
    if (b.rows) {
      rows.assign(b.rows, b.rows + depth);
      for (const T*& row : rows) row += p * width;
      part.rows = rows.data();
    } else {
      part.data += p * width * b.n_stride;
    }
    gemm.pack(part, depth, std::min(width, columns - p * width), to + p * gemm.panel_bytes(depth));
  });
  return packed;
}

// grad [N, M], rows[N] -> [features]: out [M, features] = grad^T rows.
template <typename T>
void weight_gradient(const GemmKernels<T>& gemm, const at::Tensor& grad,
                     const std::vector<const T*>& rows, const at::Tensor& out) {
  const int64_t depth = grad.size(0), columns = out.size(1), count = out.size(0);
  const at::Tensor packed = pack_panels<T>(gemm, {nullptr, 0, 1, rows.data()}, depth, columns);
  const auto a = a_rows(grad.const_data_ptr<T>(), count, 1);
  const auto c = matrix_rows<T>(out.data_ptr<T>(), count, out.stride(0));
  parallel_multiply<T>(
      gemm,
      {depth, columns, a.data(), packed.const_data_ptr(), c.data(), nullptr, false, grad.stride(0)},
      count);
}

// rows[N] -> [I] of grad_input (+)= grad [N, O] weight [O, I].
template <typename T>
void input_gradient(const GemmKernels<T>& gemm, const at::Tensor& grad, const at::Tensor& weight,
                    const std::vector<T*>& rows, bool accumulate) {
  const int64_t depth = weight.size(0), columns = weight.size(1);
  const at::Tensor packed =
      pack_panels<T>(gemm, {weight.const_data_ptr<T>(), weight.stride(0), 1}, depth, columns);
  const auto a = a_rows(grad.const_data_ptr<T>(), grad.size(0), grad.stride(0));
  parallel_multiply<T>(
      gemm, {depth, columns, a.data(), packed.const_data_ptr(), rows.data(), nullptr, accumulate},
      grad.size(0));
}

}  // namespace seq2seq_ext
