// The kernel table: every CPU kernel exists once per instruction set and is
// reached through these function pointers. Chosen once, at load.
#pragma once

#include <string>
#include <vector>

#include "attention.h"
#include "attentional_decoder.h"
#include "floors.h"
#include "gemm.h"
#include "linear_cross_entropy.h"
#include "pointwise.h"
#include "recurrent.h"
#include "search/sampling.h"
#include "topk.h"

namespace seq2seq_ext {

// Each holds all that stands before it. The last three differ from kAvx512 by the instructions
// that int8 and bfloat16 weights have for themselves; kAvx512Amx has them for both.
enum class Isa { kBaseline, kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16, kAvx512Amx };

template <typename T>
struct Kernels {
  ByWeightType<T, GemmKernels<T>> gemm;
  ByWeightType<T, FloorKernels> floors;
  ByWeightType<T, RecurrentKernels<T>> lstm;
  ByWeightType<T, RecurrentKernels<T>> gru;
  ByWeightType<T, RecurrentKernels<T>> rnn_tanh;
  ByWeightType<T, RecurrentKernels<T>> rnn_relu;
  AttentionKernels<T> attention;
  TopkKernels<T> topk;
  LinearCrossEntropyKernels<T> linear_cross_entropy;
  AttentionalDecoderKernels<T> attentional_decoder;
  PointwiseKernels<T> pointwise;
  SamplingKernels<T> sampling;

  const RecurrentKernels<T>& cell(CellKind cell, WeightType type) const {
    switch (cell) {
      case CellKind::kLstm:
        return lstm[type];
      case CellKind::kGru:
        return gru[type];
      case CellKind::kRnnTanh:
        return rnn_tanh[type];
      default:
        return rnn_relu[type];
    }
  }
};

// The table in force. T is float or double.
template <typename T>
const Kernels<T>& kernels();

const char* isa_name(Isa isa);
Isa active_isa();

// Whether this build holds the ISA and this CPU runs it.
bool isa_available(Isa isa);
std::vector<std::string> available_isas();

// How the ISA in force multiplies weights of the type, in words.
const char* weight_path(WeightType type);

// Puts the named ISA in force. Returns an empty string, or the reason it can't.
// Not to be called while kernels run: tests switch between calls.
std::string set_isa(const std::string& name);

// The reason SEQ2SEQ_EXT_ISA could not be honoured at load; empty if it was.
const std::string& isa_load_error();

}  // namespace seq2seq_ext
