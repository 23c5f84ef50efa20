#include "floors.h"

#include <ATen/native/CPUBlas.h>
#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <cstring>

#include "check.h"
#include "kernels/isa.h"
#include "packed.h"
#include "parallel.h"

namespace seq2seq_ext {

namespace {

at::DataPtr zeros(int64_t bytes) {
  at::DataPtr data = c10::GetCPUAllocator()->allocate(bytes);
  std::memset(data.get(), 0, bytes);
  return data;
}

template <typename A, typename B, typename C>
int64_t brgemm(int64_t steps) {
  constexpr int64_t kRows = 64, kColumns = 64, kDepth = 1024;
  constexpr bool kInterleaved = sizeof(A) < 4;  // values that meet in one instruction lie together
  parallel(max_threads(), 1, [&](int64_t) {
    // The allocator's memory begins with a line, which the tile unit's loads want.
    const at::DataPtr a = zeros(kRows * kDepth * sizeof(A)),
                      b = zeros(kDepth * kColumns * sizeof(B)),
                      c = zeros(kRows * kColumns * sizeof(C));
    for (int64_t i = 0; i < steps; ++i)
      at::native::cpublas::brgemm(kRows, kColumns, kDepth, kDepth, kColumns, kColumns, false,
                                  static_cast<const A*>(a.get()), static_cast<const B*>(b.get()),
                                  static_cast<C*>(c.get()), kInterleaved);
    at::native::cpublas::brgemm_release(kInterleaved);
  });
  return 2 * kRows * kColumns * kDepth * steps * max_threads();
}

}  // namespace

int64_t floor_multiply(at::ScalarType dtype, int64_t steps) {
  TORCH_CHECK_VALUE(is_storage_of(at::kFloat, dtype), "floor_multiply: dtype: expected Float",
                    or_reduced(at::kFloat), ", got ", dtype);
  const FloorKernels& kernel = kernels<float>().floors[weight_type(dtype)];
  std::atomic<int64_t> operations = 0;
  parallel(max_threads(), 1, [&](int64_t) { operations += kernel.multiply(steps); });
  return operations;
}

int64_t floor_brgemm(at::ScalarType dtype, int64_t steps) {
  TORCH_CHECK_VALUE(is_storage_of(at::kFloat, dtype), "floor_brgemm: dtype: expected Float",
                    or_reduced(at::kFloat), ", got ", dtype);
  if (dtype == at::kFloat) return brgemm<float, float, float>(steps);
  if (!at::native::cpublas::could_pack(dtype == at::kChar ? at::kByte : dtype)) return 0;
  return dtype == at::kChar ? brgemm<unsigned char, signed char, int32_t>(steps)
                            : brgemm<at::BFloat16, at::BFloat16, float>(steps);
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
