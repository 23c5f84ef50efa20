#include <ATen/Functions.h>
#include <torch/library.h>

#include <vector>

#include "check.h"
#include "kernels/isa.h"
#include "parallel.h"

namespace seq2seq_ext {

namespace {

using at::Tensor;

void check_weight(const char* op, const Tensor& weight) {
  check_floating(op, "weight", weight);
  check_dim(op, "weight", weight, 2, "[O, I]");
  TORCH_CHECK_VALUE(weight.device().is_cpu(), op, ": weight: expected on cpu, got ",
                    weight.device());
}

// [panels, I, width]: a weight's rows are the product's columns.
template <typename T>
Tensor pack(const Tensor& any_weight) {
  const auto& gemm = kernels<T>().gemm;
  const Tensor weight = any_weight.contiguous();
  const int64_t columns = weight.size(0), depth = weight.size(1), width = gemm.panel_width;
  Tensor packed = at::empty({(columns + width - 1) / width, depth, width}, weight.options());
  const T* source = weight.const_data_ptr<T>();
  T* panels = packed.data_ptr<T>();
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p)
      gemm.pack({source + p * width * depth, 1, depth}, depth, std::min(width, columns - p * width),
                panels + p * depth * width);
  };
  if (max_threads() == 1)
    run(0, packed.size(0));
  else
    at::parallel_for(0, packed.size(0), 1 + 65536 / (depth * width + 1), run);
  return packed;
}

template <typename T>
Tensor multiply(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                const Tensor& packed) {
  const int64_t columns = weight.size(0), depth = weight.size(1);
  std::vector<int64_t> shape = input.sizes().vec();
  shape.back() = columns;
  Tensor output = at::empty(shape, input.options());
  const Tensor x = input.contiguous(), b = bias ? bias->contiguous() : Tensor();
  const int64_t rows = columns ? output.numel() / columns : 0;
  std::vector<const T*> from(rows);
  std::vector<T*> to(rows);
  for (int64_t row = 0; row < rows; ++row) {
    from[row] = x.const_data_ptr<T>() + row * depth;
    to[row] = output.data_ptr<T>() + row * columns;
  }
  parallel_multiply<T>(kernels<T>().gemm,
                       {depth, columns, from.data(), packed.const_data_ptr<T>(), to.data(),
                        bias ? b.const_data_ptr<T>() : nullptr, false},
                       rows);
  return output;
}

Tensor linear_pack(const Tensor& weight) {
  check_weight("linear_pack", weight);
  return weight.scalar_type() == at::kFloat ? pack<float>(weight) : pack<double>(weight);
}

Tensor linear(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
              const std::optional<Tensor>& given) {
  const char* op = "linear";
  check_weight(op, weight);
  check_like(op, "input", input, weight, "weight");
  TORCH_CHECK_VALUE(input.dim() > 0 && input.size(-1) == weight.size(1), op,
                    ": input: expected [..., ", weight.size(1), "], got shape ", input.sizes());
  if (bias) {
    check_like(op, "bias", *bias, weight, "weight");
    check_shape(op, "bias", *bias, {weight.size(0)});
  }
  if (given) {
    const int64_t width = weight.scalar_type() == at::kFloat ? kernels<float>().gemm.panel_width
                                                             : kernels<double>().gemm.panel_width;
    check_like(op, "packed", *given, weight, "weight");
    check_shape(op, "packed", *given,
                {(weight.size(0) + width - 1) / width, weight.size(1), width});
  }
  const Tensor packed = given ? given->contiguous() : linear_pack(weight);
  return weight.scalar_type() == at::kFloat ? multiply<float>(input, weight, bias, packed)
                                            : multiply<double>(input, weight, bias, packed);
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CPU, m) {
  m.impl("linear", &linear);
  m.impl("linear_pack", &linear_pack);
}

}  // namespace seq2seq_ext
