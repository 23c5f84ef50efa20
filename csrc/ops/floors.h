// The machine's best rates, for the benchmarks: work over all threads that the caller times.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace seq2seq_ext {

// Operations done by `steps` rounds a thread with weights of dtype.
int64_t floor_multiply(at::ScalarType dtype, int64_t steps);

// Every thread reads its share of buffer, [threads, bytes], so many times over. Returns the bytes.
int64_t floor_read(const at::Tensor& buffer, int64_t times);

}  // namespace seq2seq_ext
