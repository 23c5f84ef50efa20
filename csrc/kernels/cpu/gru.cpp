#include "gru_cell.h"
#include "recurrent_backward.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

template <typename T>
ByWeightType<T, RecurrentKernels<T>> gru_kernels() {
  return {{recurrent_kernels<GruCell, T>()}};
}

template ByWeightType<float, RecurrentKernels<float>> gru_kernels();
template ByWeightType<double, RecurrentKernels<double>> gru_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
