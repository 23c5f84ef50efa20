// Large tensors on huge pages (kernels/huge_pages.h), small ones as torch makes them.
#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <memory>

#include "kernels/huge_pages.h"

namespace seq2seq_ext {

// Memory that torch's allocator on the CPU would give back to the system, and map again, at every
// call.
inline bool is_huge(at::IntArrayRef shape, const at::TensorOptions& options) {
  constexpr int64_t kHuge = 4 << 20;
  return options.device().is_cpu() &&
         c10::multiply_integers(shape) * static_cast<int64_t>(options.dtype().itemsize()) >= kHuge;
}

inline at::Tensor on_huge_pages(at::IntArrayRef shape, const at::TensorOptions& options) {
  const int64_t bytes = c10::multiply_integers(shape) * options.dtype().itemsize();
  const auto memory = std::make_shared<HugePages>(bytes);
  return at::from_blob(memory->take(bytes), shape, [memory](void*) {}, options);
}

inline at::Tensor huge_empty(at::IntArrayRef shape, const at::TensorOptions& options) {
  return is_huge(shape, options) ? on_huge_pages(shape, options) : at::empty(shape, options);
}

// Where rows stay zero, of those that are huge, they are not even touched.
inline at::Tensor huge_zeros(at::IntArrayRef shape, const at::TensorOptions& options) {
  return is_huge(shape, options) ? on_huge_pages(shape, options) : at::zeros(shape, options);
}

// What an op needs only while it runs: up to 32 MB glibc keeps from one call to the next, which is
// quicker than pages that are new each time.
inline at::Tensor scratch_empty(int64_t bytes) {
  constexpr int64_t kKept = 32 << 20;
  return bytes > kKept ? on_huge_pages({bytes}, at::kByte) : at::empty({bytes}, at::kByte);
}

}  // namespace seq2seq_ext
