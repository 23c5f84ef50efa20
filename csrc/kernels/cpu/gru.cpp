#include "../gru_cell.h"
#include "recurrent_backward.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

template <class W>
RecurrentKernels<typename W::T> gru_kernels() {
  return recurrent_kernels<GruCell, W>();
}

#define INSTANTIATE(W) template RecurrentKernels<W::T> gru_kernels<W>();
SEQ2SEQ_EXT_FOR_WEIGHTS(INSTANTIATE)

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
