#include "recurrent_backward.h"
#include "rnn_cell.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

template <typename T>
ByWeightType<T, RecurrentKernels<T>> rnn_tanh_kernels() {
  return {{recurrent_kernels<RnnCell<Tanh>, T>()}};
}

template <typename T>
ByWeightType<T, RecurrentKernels<T>> rnn_relu_kernels() {
  return {{recurrent_kernels<RnnCell<Relu>, T>()}};
}

template ByWeightType<float, RecurrentKernels<float>> rnn_tanh_kernels();
template ByWeightType<double, RecurrentKernels<double>> rnn_tanh_kernels();
template ByWeightType<float, RecurrentKernels<float>> rnn_relu_kernels();
template ByWeightType<double, RecurrentKernels<double>> rnn_relu_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
