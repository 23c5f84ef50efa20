// Packed weights as tensors: opaque, their dtype says how the weights are stored.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <optional>

#include "kernels/weights.h"

namespace seq2seq_ext {

// Depth up to which sums of int8 products fit int32.
constexpr int64_t kInt8Depth = 131072;

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

// Whether weights stored as `packed` meet activations (and come from weights) of type `own`.
inline bool is_storage_of(at::ScalarType own, at::ScalarType packed) {
  return packed == own || (own == at::kFloat && (packed == at::kBFloat16 || packed == at::kChar));
}

inline const char* or_reduced(at::ScalarType own) {
  return own == at::kFloat ? ", bfloat16 or int8" : "";
}

// The storage that pack ops are asked for: by default the weights' own. depth: the longest sum.
inline at::ScalarType packed_dtype(const char* op, const at::Tensor& weight,
                                   std::optional<at::ScalarType> asked, int64_t depth) {
  const at::ScalarType own = weight.scalar_type(), dtype = asked.value_or(own);
  TORCH_CHECK_VALUE(is_storage_of(own, dtype), op, ": dtype: expected ", own, or_reduced(own),
                    ", got ", dtype);
  TORCH_CHECK_VALUE(dtype != at::kChar || depth <= kInt8Depth, op, ": dtype: expected at most ",
                    kInt8Depth, " inputs with int8, got ", depth);
  return dtype;
}

// What a differentiable op's products are asked to round both their sides to.
inline WeightType product_type(const char* op, const at::Tensor& input,
                               std::optional<at::ScalarType> asked) {
  const at::ScalarType own = input.scalar_type(), dtype = asked.value_or(own);
  TORCH_CHECK_VALUE(dtype == own || (own == at::kFloat && dtype == at::kBFloat16), op,
                    ": dtype: expected ", own, own == at::kFloat ? " or bfloat16" : "", ", got ",
                    dtype);
  return weight_type(dtype);
}

// The type of the packed weights that an op got for activations like `input`.
inline WeightType check_packed(const char* op, const at::Tensor& packed, const at::Tensor& input) {
  const at::ScalarType own = input.scalar_type();
  TORCH_CHECK_TYPE(is_storage_of(own, packed.scalar_type()), op, ": packed: expected ", own,
                   or_reduced(own), ", got ", packed.scalar_type());
  TORCH_CHECK_VALUE(packed.device() == input.device(), op, ": packed: expected on ", input.device(),
                    " like input, got ", packed.device());
  return weight_type(packed.scalar_type());
}

// A number that changes with the ISA, and with the address, the version or the contents of a
// weight; none where a write to one could go unseen. Of the contents a few elements, spread evenly,
// tell of dense writes that leave autograd's version counter alone, such as those through .data.
std::optional<int64_t> weights_state(at::TensorList weights);

}  // namespace seq2seq_ext
