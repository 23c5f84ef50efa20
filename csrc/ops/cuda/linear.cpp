#include "linear.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <vector>

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;

Tensor linear(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
              const std::optional<Tensor>& packed) {
  const c10::DeviceGuard guard = guard_of("linear", "weight", weight);
  const LinearInputs x("linear", input, weight, bias, packed);
  std::vector<int64_t> shape = input.sizes().vec();
  shape.back() = weight.size(0);
  const Tensor output = at::empty(shape, input.options());
  with_type(weight.scalar_type(), [&]<typename T>() {
    gemm<T>(x.product<T>(), data<T>(output), false, allows_tf32(), current_stream(input));
  });
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CUDA, m) { m.impl("linear", &linear); }

}  // namespace seq2seq_ext::cuda
