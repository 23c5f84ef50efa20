// What kernels and the ops that launch them agree on. No CUDA header: ops need none.
#pragma once

#include <cstdint>

namespace seq2seq_ext::cuda {

// A cudaStream_t. Every launch goes to the caller's; none waits for the device, allocates, or
// touches another stream, so that all of them can be captured into a graph.
using Stream = void*;

// The half-precision types as they are stored.
struct Bfloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// The type that values of T are computed in.
template <typename T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};
template <typename T>
using Acc = typename Accumulator<T>::type;

// 16 neighbouring bytes: what a thread moves at once.
template <typename T>
struct alignas(16) Chunk {
  static constexpr int kSize = 16 / sizeof(T);
  union {
    uint32_t words[4];
    T values[kSize];
  };
};

// Rows of contiguous features, for each sentence of a batch.
template <typename T>
struct BatchRows {
  T* data;
  int64_t batch_stride, row_stride;
};

}  // namespace seq2seq_ext::cuda
