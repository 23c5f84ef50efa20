#include "../linear.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <vector>

#include "device.h"
#include "kernels/cuda/gemm.h"

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;

Tensor linear(const Tensor& any_input, const Tensor& any_weight, const std::optional<Tensor>& bias,
              const std::optional<Tensor>& packed) {
  const char* op = "linear";
  const c10::DeviceGuard guard(any_weight.device());
  check_type(op, "weight", any_weight);
  check_dim(op, "weight", any_weight, 2, "[O, I]");
  check_linear_input(op, any_input, any_weight, bias);
  TORCH_CHECK_VALUE(!packed, op, ": packed: expected None on CUDA, where weights are read as they ",
                    "are, got a tensor");
  const Tensor input = any_input.contiguous(), weight = dense_rows(any_weight);
  const int64_t columns = weight.size(0), depth = weight.size(1);
  const at::ScalarType type = weight.scalar_type();
  std::vector<int64_t> shape = input.sizes().vec();
  shape.back() = columns;
  const Tensor output = at::empty(shape, input.options());
  const Tensor wide_bias = bias ? bias->to(accumulator(type)).contiguous() : Tensor();
  with_type(type, [&]<typename T>() {
    gemm<T>({columns ? output.numel() / columns : 0, columns, depth,
             matrix(data<const T>(input), depth), data<const T>(weight), weight.stride(0),
             data<const Acc<T>>(wide_bias)},
            data<T>(output), false, allows_tf32(), current_stream(input));
  });
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CUDA, m) { m.impl("linear", &linear); }

}  // namespace seq2seq_ext::cuda
