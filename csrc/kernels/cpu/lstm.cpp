#include "lstm_cell.h"
#include "recurrent_backward.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

template <typename T>
ByWeightType<T, RecurrentKernels<T>> lstm_kernels() {
  return {{recurrent_kernels<LstmCell, T>()}};
}

template ByWeightType<float, RecurrentKernels<float>> lstm_kernels();
template ByWeightType<double, RecurrentKernels<double>> lstm_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
