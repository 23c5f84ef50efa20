// A linear layer's arguments, for the ops that begin with one.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "check.h"

namespace seq2seq_ext {

// input [..., I], bias [O] for a checked weight [O, I].
inline void check_linear_input(const char* op, const at::Tensor& input, const at::Tensor& weight,
                               const std::optional<at::Tensor>& bias) {
  check_like(op, "input", input, weight, "weight");
  TORCH_CHECK_VALUE(input.dim() > 0 && input.size(-1) == weight.size(1), op,
                    ": input: expected [..., ", weight.size(1), "], got shape ", input.sizes());
  if (!bias) return;
  check_like(op, "bias", *bias, weight, "weight");
  check_shape(op, "bias", *bias, {weight.size(0)});
}

// input [..., I], weight [O, I], bias [O]: checked; returns the packed weight, the given one if
// there is one.
at::Tensor check_linear(const char* op, const at::Tensor& input, const at::Tensor& weight,
                        const std::optional<at::Tensor>& bias,
                        const std::optional<at::Tensor>& given);

// The CPU's linear op: input [..., I] -> [..., O].
at::Tensor linear_forward(const at::Tensor& input, const at::Tensor& weight,
                          const std::optional<at::Tensor>& bias,
                          const std::optional<at::Tensor>& packed);

}  // namespace seq2seq_ext
