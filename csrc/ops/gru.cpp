#include <torch/library.h>

#include "recurrent.h"

namespace seq2seq_ext {

namespace {

using at::Tensor;

std::tuple<Tensor, Tensor, Tensor> gru(const Tensor& input, const std::optional<Tensor>& lengths,
                                       const Tensor& h_0, at::TensorList weights, bool has_biases,
                                       const std::optional<Tensor>& packed, bool save) {
  const LayerOutputs out = layer_forward(
      {"gru", CellKind::kGru, input, lengths, h_0, {}, weights, has_biases}, packed, save);
  return {out.output, out.h_n, out.saved};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> gru_backward(
    const Tensor& grad_output, const Tensor& grad_h_n, const Tensor& input,
    const std::optional<Tensor>& lengths, const Tensor& h_0, at::TensorList weights,
    bool has_biases, const Tensor& output, const Tensor& saved, std::optional<at::ScalarType> dtype,
    std::array<bool, 2> wanted) {
  const LayerGradients g =
      layer_backward({"gru_backward", CellKind::kGru, input, lengths, h_0, {}, weights, has_biases},
                     {output, saved, grad_output, grad_h_n, {}, dtype, wanted});
  return {g.input, g.h_0, g.weight_ih, g.weight_hh, g.bias_ih, g.bias_hh};
}

Tensor gru_pack(at::TensorList weights, bool has_biases, std::optional<at::ScalarType> dtype) {
  return layer_pack("gru_pack", CellKind::kGru, weights, has_biases, dtype);
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CPU, m) {
  m.impl("gru", &gru);
  m.impl("gru_backward", &gru_backward);
  m.impl("gru_pack", &gru_pack);
}

}  // namespace seq2seq_ext
