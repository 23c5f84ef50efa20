#include "linear.h"

#include <ATen/Functions.h>
#include <torch/library.h>

#include <array>
#include <vector>

#include "check.h"
#include "kernels/isa.h"
#include "packed.h"
#include "products.h"

namespace seq2seq_ext {

namespace {

using at::Tensor;

void check_weight(const char* op, const Tensor& weight) {
  check_floating(op, "weight", weight);
  check_dim(op, "weight", weight, 2, "[O, I]");
  TORCH_CHECK_VALUE(weight.device().is_cpu(), op, ": weight: expected on cpu, got ",
                    weight.device());
}

// [panels, size of one]: a weight's rows are the product's columns.
std::vector<int64_t> packed_shape(int64_t outputs, int64_t inputs, at::ScalarType dtype) {
  const auto shape = [&](const auto& gemm) -> std::vector<int64_t> {
    return {(outputs + gemm.panel_width - 1) / gemm.panel_width,
            gemm.panel_bytes(inputs) / static_cast<int64_t>(c10::elementSize(dtype))};
  };
  return dtype == at::kDouble ? shape(kernels<double>().gemm[WeightType::kFloat32])
                              : shape(kernels<float>().gemm[weight_type(dtype)]);
}

template <typename T>
Tensor pack(const Tensor& any_weight, at::ScalarType dtype) {
  const auto& gemm = kernels<T>().gemm[weight_type(dtype)];
  const Tensor weight = any_weight.contiguous();
  const int64_t columns = weight.size(0), depth = weight.size(1), width = gemm.panel_width;
  Tensor packed = at::empty(packed_shape(columns, depth, dtype), weight.options().dtype(dtype));
  const T* source = weight.const_data_ptr<T>();
  char* panels = static_cast<char*>(packed.data_ptr());
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p)
      gemm.pack({source + p * width * depth, 1, depth}, depth, std::min(width, columns - p * width),
                panels + p * gemm.panel_bytes(depth));
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
  std::vector<const void*> from(rows);
  std::vector<T*> to(rows);
  for (int64_t row = 0; row < rows; ++row) {
    from[row] = x.const_data_ptr<T>() + row * depth;
    to[row] = output.data_ptr<T>() + row * columns;
  }
  parallel_multiply<T>(kernels<T>().gemm[weight_type(packed.scalar_type())],
                       {depth, columns, from.data(), packed.const_data_ptr(), to.data(),
                        bias ? b.const_data_ptr<T>() : nullptr, false},
                       rows);
  return output;
}

Tensor linear_pack(const Tensor& weight, std::optional<at::ScalarType> asked) {
  check_weight("linear_pack", weight);
  const at::ScalarType dtype = packed_dtype("linear_pack", weight, asked, weight.size(1));
  return weight.scalar_type() == at::kFloat ? pack<float>(weight, dtype)
                                            : pack<double>(weight, dtype);
}

// The gradients of input, weight and bias; empty where they are not wanted.
template <typename T>
std::tuple<Tensor, Tensor, Tensor> gradients(const GemmKernels<T>& gemm, const Tensor& grad,
                                             const Tensor& input, const Tensor& weight,
                                             std::array<bool, 3> wanted) {
  const int64_t outputs = weight.size(0), inputs = weight.size(1);
  const int64_t count = c10::multiply_integers(input.sizes().slice(0, input.dim() - 1));
  const Tensor rows = grad.reshape({count, outputs}).contiguous();
  const auto empty = [&](at::IntArrayRef shape) { return at::empty(shape, input.options()); };
  Tensor grad_input = empty(wanted[0] ? input.sizes() : at::IntArrayRef{0});
  Tensor grad_weight = empty({wanted[1] ? outputs : 0, inputs});
  Tensor grad_bias = wanted[2] ? rows.sum(0) : empty({0});
  if (wanted[0])
    input_gradient<T>(gemm, rows, weight, matrix_rows<T>(grad_input.data_ptr<T>(), count, inputs),
                      false);
  if (wanted[1]) {
    const Tensor x = input.contiguous();
    weight_gradient<T>(gemm, rows, matrix_rows<const T>(x.const_data_ptr<T>(), count, inputs),
                       grad_weight);
  }
  return {grad_input, grad_weight, grad_bias};
}

std::tuple<Tensor, Tensor, Tensor> linear_backward(const Tensor& grad, const Tensor& input,
                                                   const Tensor& weight,
                                                   std::optional<at::ScalarType> dtype,
                                                   std::array<bool, 3> wanted) {
  const char* const op = "linear_backward";
  check_weight(op, weight);
  check_linear_input(op, input, weight, std::nullopt);
  check_like(op, "grad", grad, weight, "weight");
  std::vector<int64_t> shape = input.sizes().vec();
  shape.back() = weight.size(0);
  check_shape(op, "grad", grad, shape);
  const WeightType products = product_type(op, input, dtype);
  const Tensor dense = weight.contiguous();
  return weight.scalar_type() == at::kFloat
             ? gradients<float>(kernels<float>().gemm[products], grad, input, dense, wanted)
             : gradients<double>(kernels<double>().gemm[products], grad, input, dense, wanted);
}

}  // namespace

Tensor check_linear(const char* op, const Tensor& input, const Tensor& weight,
                    const std::optional<Tensor>& bias, const std::optional<Tensor>& given) {
  check_weight(op, weight);
  check_linear_input(op, input, weight, bias);
  if (!given) return linear_pack(weight, std::nullopt);
  check_packed(op, *given, input);
  check_shape(op, "packed", *given,
              packed_shape(weight.size(0), weight.size(1), given->scalar_type()));
  return given->contiguous();
}

Tensor linear_forward(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                      const std::optional<Tensor>& given) {
  const Tensor packed = check_linear("linear", input, weight, bias, given);
  return weight.scalar_type() == at::kFloat ? multiply<float>(input, weight, bias, packed)
                                            : multiply<double>(input, weight, bias, packed);
}

TORCH_LIBRARY_IMPL(seq2seq_ext, CatchAll, m) { m.impl("linear_packed_shape", &packed_shape); }

TORCH_LIBRARY_IMPL(seq2seq_ext, CPU, m) {
  m.impl("linear", &linear_forward);
  m.impl("linear_backward", &linear_backward);
  m.impl("linear_pack", &linear_pack);
}

}  // namespace seq2seq_ext
