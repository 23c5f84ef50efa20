#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

template <class W>
void add_kernels(Kernels<typename W::T>& table) {
  constexpr int i = static_cast<int>(W::kType);
  table.gemm.of[i] = gemm_kernels<W>();
  table.floors.of[i] = floor_kernels<W>();
  table.lstm.of[i] = lstm_kernels<W>();
  table.gru.of[i] = gru_kernels<W>();
  table.rnn_tanh.of[i] = rnn_tanh_kernels<W>();
  table.rnn_relu.of[i] = rnn_relu_kernels<W>();
}

#ifdef SEQ2SEQ_EXT_REPLACES

#define ADD(W) add_kernels<W>(table);
void replace_kernels(Kernels<float>& table) { SEQ2SEQ_EXT_FOR_WEIGHTS(ADD) }
#undef ADD

#else

void make_kernels(Kernels<float>& table) {
  add_kernels<FullWeights<float> >(table);
  add_kernels<Bfloat16Weights>(table);
  add_kernels<Int8Weights>(table);
  table.attention = attention_kernels<float>();
  table.topk = topk_kernels<float>();
  table.linear_cross_entropy = linear_cross_entropy_kernels<float>();
  table.attentional_decoder = attentional_decoder_kernels<float>();
  table.pointwise = pointwise_kernels<float>();
  table.sampling = sampling_kernels<float>();
}

void make_kernels(Kernels<double>& table) {
  add_kernels<FullWeights<double> >(table);
  table.attention = attention_kernels<double>();
  table.topk = topk_kernels<double>();
  table.linear_cross_entropy = linear_cross_entropy_kernels<double>();
  table.attentional_decoder = attentional_decoder_kernels<double>();
  table.pointwise = pointwise_kernels<double>();
  table.sampling = sampling_kernels<double>();
}

#endif

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
