// Functions of single values.
#pragma once

#include <cstdint>

namespace seq2seq_ext {

template <typename T>
struct PointwiseKernels {
  void (*tanh)(T* values, int64_t n);  // in place
};

}  // namespace seq2seq_ext
