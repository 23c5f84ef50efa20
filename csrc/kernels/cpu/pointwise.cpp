#include "../pointwise.h"

#include "simd.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

namespace {

template <typename T>
void tanh_in_place(T* values, int64_t n) {
  for (int64_t i = 0; i < n; i += Simd<T>::kLanes)
    store_n(values + i, tanh(load_n(values + i, n - i)), n - i);
}

}  // namespace

template <typename T>
PointwiseKernels<T> pointwise_kernels() {
  return {tanh_in_place<T>};
}

template PointwiseKernels<float> pointwise_kernels();
template PointwiseKernels<double> pointwise_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
