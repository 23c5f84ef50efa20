// Packed weights as tensors: opaque, their dtype says how the weights are stored.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include "kernels/weights.h"

namespace seq2seq_ext {

// The storage that pack ops are asked for: by default the weights' own.
inline at::ScalarType packed_dtype(const char* op, const at::Tensor& weight,
                                   std::optional<at::ScalarType> asked) {
  const at::ScalarType own = weight.scalar_type(), dtype = asked.value_or(own);
  TORCH_CHECK_VALUE(dtype == own, op, ": dtype: expected ", own, ", got ", dtype);
  return dtype;
}

inline WeightType weight_type(at::ScalarType packed) {
  switch (packed) {
    case at::kBFloat16:
      return WeightType::kBfloat16;
    case at::kChar:
      return WeightType::kInt8;
    default:
      return WeightType::kFloat32;
  }
}

// The type of the packed weights that an op got for activations of type `input`.
inline WeightType check_packed(const char* op, const at::Tensor& packed, const at::Tensor& input) {
  TORCH_CHECK_TYPE(packed.scalar_type() == input.scalar_type(), op, ": packed: expected ",
                   input.scalar_type(), " like input, got ", packed.scalar_type());
  TORCH_CHECK_VALUE(packed.device() == input.device(), op, ": packed: expected on ", input.device(),
                    " like input, got ", packed.device());
  return weight_type(packed.scalar_type());
}

}  // namespace seq2seq_ext
