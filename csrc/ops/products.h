// Products around the kernels: rows as the GEMM takes them, packing over all threads, and the
// two products of a linear map's backward.
#pragma once

#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

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
  const at::Tensor packed = at::empty({panels * gemm.panel_bytes(depth)}, at::kByte);
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

}  // namespace seq2seq_ext
