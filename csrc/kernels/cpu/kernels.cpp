#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

template <typename T>
Kernels<T> make_kernels() {
  return {gemm_kernels<T>(),
          lstm_kernels<T>(),
          gru_kernels<T>(),
          rnn_tanh_kernels<T>(),
          rnn_relu_kernels<T>(),
          attention_kernels<T>(),
          topk_kernels<T>(),
          linear_cross_entropy_kernels<T>(),
          attentional_decoder_kernels<T>(),
          pointwise_kernels<T>()};
}

template Kernels<float> make_kernels();
template Kernels<double> make_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
