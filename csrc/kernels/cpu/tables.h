// What each noun's file hands to this ISA's kernel table (kernels.cpp), and for which weight
// types it is compiled here.
#pragma once

#include "../isa.h"
#include "bfloat16_weights.h"
#include "int8_weights.h"

// An ISA that adds instructions for some weight types compiles those only.
#if defined(SEQ2SEQ_EXT_TILE_UNIT)
#define SEQ2SEQ_EXT_REPLACES
#define SEQ2SEQ_EXT_FOR_WEIGHTS(X) X(Bfloat16Weights) X(Int8Weights)
#elif defined(SEQ2SEQ_EXT_WEIGHTS)
#define SEQ2SEQ_EXT_REPLACES
#define SEQ2SEQ_EXT_FOR_WEIGHTS(X) X(SEQ2SEQ_EXT_WEIGHTS)
#else
#define SEQ2SEQ_EXT_FOR_WEIGHTS(X) \
  X(FullWeights<float>) X(FullWeights<double>) X(Bfloat16Weights) X(Int8Weights)
#endif

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

template <class W>
GemmKernels<typename W::T> gemm_kernels();
template <class W>
FloorKernels floor_kernels();
template <class W>
RecurrentKernels<typename W::T> lstm_kernels();
template <class W>
RecurrentKernels<typename W::T> gru_kernels();
template <class W>
RecurrentKernels<typename W::T> rnn_tanh_kernels();
template <class W>
RecurrentKernels<typename W::T> rnn_relu_kernels();
template <typename T>
AttentionKernels<T> attention_kernels();
template <typename T>
TopkKernels<T> topk_kernels();
template <typename T>
LinearCrossEntropyKernels<T> linear_cross_entropy_kernels();
template <typename T>
PointwiseKernels<T> pointwise_kernels();
template <typename T>
SamplingKernels<T> sampling_kernels();
template <typename T>
AttentionalDecoderKernels<T> attentional_decoder_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
