// What each noun's file hands to this ISA's kernel table (kernels.cpp).
#pragma once

#include "../isa.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

template <typename T>
ByWeightType<T, GemmKernels<T>> gemm_kernels();
template <typename T>
ByWeightType<T, RecurrentKernels<T>> lstm_kernels();
template <typename T>
ByWeightType<T, RecurrentKernels<T>> gru_kernels();
template <typename T>
ByWeightType<T, RecurrentKernels<T>> rnn_tanh_kernels();
template <typename T>
ByWeightType<T, RecurrentKernels<T>> rnn_relu_kernels();
template <typename T>
AttentionKernels<T> attention_kernels();
template <typename T>
TopkKernels<T> topk_kernels();
template <typename T>
LinearCrossEntropyKernels<T> linear_cross_entropy_kernels();
template <typename T>
PointwiseKernels<T> pointwise_kernels();
template <typename T>
AttentionalDecoderKernels<T> attentional_decoder_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
