// A linear layer's arguments, for the ops that begin with one.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace seq2seq_ext {

// input [..., I], weight [O, I], bias [O]: checked; returns the packed weight, the given one if
// there is one.
at::Tensor check_linear(const char* op, const at::Tensor& input, const at::Tensor& weight,
                        const std::optional<at::Tensor>& bias,
                        const std::optional<at::Tensor>& given);

}  // namespace seq2seq_ext
