#include "../beam_search.h"

#include "simd.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

template <typename T>
BeamSearchKernels<T> beam_search_kernels() {
  return {};
}

template BeamSearchKernels<float> beam_search_kernels();
template BeamSearchKernels<double> beam_search_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
