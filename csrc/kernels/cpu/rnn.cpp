#include "../rnn_cell.h"
#include "recurrent_backward.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

template <class W>
RecurrentKernels<typename W::T> rnn_tanh_kernels() {
  return recurrent_kernels<RnnCell<Tanh>, W>();
}

template <class W>
RecurrentKernels<typename W::T> rnn_relu_kernels() {
  return recurrent_kernels<RnnCell<Relu>, W>();
}

#define INSTANTIATE(W)                                   \
  template RecurrentKernels<W::T> rnn_tanh_kernels<W>(); \
  template RecurrentKernels<W::T> rnn_relu_kernels<W>();
SEQ2SEQ_EXT_FOR_WEIGHTS(INSTANTIATE)

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
