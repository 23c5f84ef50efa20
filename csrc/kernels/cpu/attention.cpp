#include "../attention.h"

#include "simd.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

template <typename T>
AttentionKernels<T> attention_kernels() {
  return {};
}

template AttentionKernels<float> attention_kernels();
template AttentionKernels<double> attention_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
