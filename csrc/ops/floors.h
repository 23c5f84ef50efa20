// The machine's best rates, for the benchmarks: work over all threads that the caller times.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace seq2seq_ext {

// Operations done by `steps` rounds a thread with weights of dtype.
int64_t floor_multiply(at::ScalarType dtype, int64_t steps);

// The same of torch's own micro-kernel, brgemm, which its products are made of: `steps` times a
// thread [64, 1024] by [1024, 64], packed and in the thread's caches. 0 where torch has none for
// the type on this CPU.
int64_t floor_brgemm(at::ScalarType dtype, int64_t steps);

// Every thread reads its share of buffer, [threads, bytes], so many times over. Returns the bytes.
int64_t floor_read(const at::Tensor& buffer, int64_t times);

}  // namespace seq2seq_ext
