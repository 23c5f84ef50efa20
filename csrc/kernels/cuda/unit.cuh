// What a cell's equations (../cell.h) are computed on here: one unit of one row.
#pragma once

#include "device.cuh"

#define SEQ2SEQ_EXT_ISA cuda
#define SEQ2SEQ_EXT_CELL __device__

namespace seq2seq_ext::cuda {

template <typename A>
using Vec = A;

template <typename A>
__device__ A broadcast(A x) {
  return x;
}

}  // namespace seq2seq_ext::cuda
