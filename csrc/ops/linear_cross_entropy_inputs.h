// The checked arguments of the linear_cross_entropy op, on any device.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

#include "check.h"

namespace seq2seq_ext {

struct LossArguments {
  at::Tensor input, weight;
  std::optional<at::Tensor> bias;
  at::Tensor target;
  double label_smoothing;
  std::optional<int64_t> ignore_index;
};

// loss, grad_input, grad_weight, grad_bias; the gradients are empty where not wanted.
using LossOutputs = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// The arguments, checked and contiguous.
struct LossInputs {
  static constexpr const char* kOp = "linear_cross_entropy";
  at::Tensor input;   // [N, H]
  at::Tensor weight;  // [V, H]
  at::Tensor bias;    // [V] or undefined
  at::Tensor target;  // int64 [N]; its values are not checked
  double label_smoothing;
  std::optional<int64_t> ignore_index;  // a row with this target counts for nothing

  explicit LossInputs(const LossArguments& in)
      : label_smoothing(in.label_smoothing), ignore_index(in.ignore_index) {
    check_dim(kOp, "input", in.input, 2, "[N, H]");
    check_like(kOp, "linear_weight", in.weight, in.input, "input");
    check_dim(kOp, "linear_weight", in.weight, 2, "[V, H]");
    TORCH_CHECK_VALUE(in.weight.size(0) > 0, kOp, ": linear_weight: expected V >= 1, got shape ",
                      in.weight.sizes());
    check_shape(kOp, "linear_weight", in.weight, {in.weight.size(0), in.input.size(1)});
    if (in.bias) {
      check_like(kOp, "linear_bias", *in.bias, in.input, "input");
      check_shape(kOp, "linear_bias", *in.bias, {in.weight.size(0)});
      bias = in.bias->contiguous();
    }
    TORCH_CHECK_TYPE(in.target.scalar_type() == at::kLong, kOp, ": target: expected int64, got ",
                     in.target.scalar_type());
    TORCH_CHECK_VALUE(in.target.device() == in.input.device(), kOp, ": target: expected on ",
                      in.input.device(), " like input, got ", in.target.device());
    check_shape(kOp, "target", in.target, {in.input.size(0)});
    TORCH_CHECK_VALUE(label_smoothing >= 0 && label_smoothing <= 1, kOp,
                      ": label_smoothing: expected a number in [0, 1], got ", label_smoothing);
    input = in.input.contiguous(), weight = in.weight.contiguous();
    target = in.target.contiguous();
  }

  // Reads the target: for one that lies where the host does not wait for it.
  void check_target() const {
    const int64_t* y = target.const_data_ptr<int64_t>();
    for (int64_t n = 0; n < target.size(0); ++n)
      TORCH_CHECK_VALUE(y[n] == ignore_index || (y[n] >= 0 && y[n] < weight.size(0)), kOp,
                        ": target: expected values in [0, ", weight.size(0),
                        ") or ignore_index, got ", y[n], " at row ", n);
  }
};

}  // namespace seq2seq_ext
