// A linear layer's arguments on CUDA, for the ops that begin with one.
#pragma once

#include "../linear.h"
#include "device.h"
#include "kernels/cuda/gemm.h"

namespace seq2seq_ext::cuda {

// Checked: input [..., I], weight [O, I], bias [O].
class LinearInputs {
 public:
  LinearInputs(const char* op, const at::Tensor& input, const at::Tensor& weight,
               const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& packed) {
    check_type(op, "weight", weight);
    check_dim(op, "weight", weight, 2, "[O, I]");
    check_linear_input(op, input, weight, bias);
    TORCH_CHECK_VALUE(!packed, op, ": packed: expected None on CUDA, where weights are read as ",
                      "they are, got a tensor");
    input_ = input.contiguous();
    weight_ = dense_rows(weight);
    if (bias) bias_ = bias->to(accumulator(weight.scalar_type())).contiguous();
  }

  int64_t rows() const {
    int64_t rows = 1;
    for (int64_t d = 0; d < input_.dim() - 1; ++d) rows *= input_.size(d);
    return rows;
  }

  template <typename T>
  Gemm<T> product() const {
    const int64_t depth = weight_.size(1);
    return {rows(),
            weight_.size(0),
            depth,
            matrix(data<const T>(input_), depth),
            data<const T>(weight_),
            weight_.stride(0),
            data<const Acc<T>>(bias_)};
  }

 private:
  at::Tensor input_, weight_, bias_;
};

}  // namespace seq2seq_ext::cuda
