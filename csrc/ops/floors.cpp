#include "floors.h"

#include <atomic>

#include "check.h"
#include "kernels/isa.h"
#include "packed.h"
#include "parallel.h"

namespace seq2seq_ext {

int64_t floor_multiply(at::ScalarType dtype, int64_t steps) {
  TORCH_CHECK_VALUE(is_storage_of(at::kFloat, dtype), "floor_multiply: dtype: expected Float",
                    or_reduced(at::kFloat), ", got ", dtype);
  const FloorKernels& kernel = kernels<float>().floors[weight_type(dtype)];
  std::atomic<int64_t> operations = 0;
  parallel(max_threads(), 1, [&](int64_t) { operations += kernel.multiply(steps); });
  return operations;
}

int64_t floor_read(const at::Tensor& buffer, int64_t times) {
  constexpr int64_t kMultiple = 1024;
  check_dim("floor_read", "buffer", buffer, 2, "[threads, bytes]");
  TORCH_CHECK_TYPE(buffer.scalar_type() == at::kByte && buffer.device().is_cpu(),
                   "floor_read: buffer: expected Byte on cpu, got ", buffer.scalar_type(), " on ",
                   buffer.device());
  TORCH_CHECK_VALUE(buffer.is_contiguous() && buffer.size(1) % kMultiple == 0,
                    "floor_read: buffer: expected contiguous rows of a multiple of ", kMultiple,
                    " bytes, got sizes ", buffer.sizes(), ", strides ", buffer.strides());
  const FloorKernels& kernel = kernels<float>().floors[WeightType::kFloat32];
  const auto* data = buffer.const_data_ptr<uint8_t>();
  const int64_t bytes = buffer.size(1);
  std::atomic<int64_t> seen = 0;
  parallel(buffer.size(0), 1, [&](int64_t thread) {
    for (int64_t i = 0; i < times; ++i) seen += kernel.read(data + thread * bytes, bytes);
  });
  return times * buffer.numel();
}

}  // namespace seq2seq_ext
