// Large tensors on huge pages (kernels/huge_pages.h), small ones as torch makes them.
#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include "huge_pool.h"

namespace seq2seq_ext {

inline int64_t bytes_of(at::IntArrayRef shape, const at::TensorOptions& options) {
  return c10::multiply_integers(shape) * static_cast<int64_t>(options.dtype().itemsize());
}

// Memory that torch's allocator on the CPU would give back to the system, and map again, at every
// call.
inline bool is_huge(at::IntArrayRef shape, const at::TensorOptions& options) {
  constexpr int64_t kHuge = 4 << 20;
  return options.device().is_cpu() && bytes_of(shape, options) >= kHuge;
}

inline at::Tensor tensor_on(const HugeBlock& block, at::IntArrayRef shape,
                            const at::TensorOptions& options) {
  const auto pages = block.pages;
  return at::from_blob(pages->data(), shape, [pages](void*) {}, options);
}

inline at::Tensor on_huge_pages(at::IntArrayRef shape, const at::TensorOptions& options) {
  return tensor_on(take_huge(bytes_of(shape, options)), shape, options);
}

inline at::Tensor huge_empty(at::IntArrayRef shape, const at::TensorOptions& options) {
  return is_huge(shape, options) ? on_huge_pages(shape, options) : at::empty(shape, options);
}

// Where rows stay zero, new pages are not even touched.
inline at::Tensor huge_zeros(at::IntArrayRef shape, const at::TensorOptions& options) {
  if (!is_huge(shape, options)) return at::zeros(shape, options);
  const HugeBlock block = take_huge(bytes_of(shape, options));
  const at::Tensor zeros = tensor_on(block, shape, options);
  return block.is_zero ? zeros : zeros.zero_();
}

// What an op needs only while it runs: up to 32 MB glibc keeps from one call to the next, which is
// quicker than pages that are new each time.
inline at::Tensor scratch_empty(int64_t bytes) {
  constexpr int64_t kKept = 32 << 20;
  return bytes > kKept ? on_huge_pages({bytes}, at::kByte) : at::empty({bytes}, at::kByte);
}

}  // namespace seq2seq_ext
