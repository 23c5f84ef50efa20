#include <torch/library.h>

#include "recurrent.h"

namespace seq2seq_ext {

namespace {

using at::Tensor;

std::tuple<Tensor, Tensor, Tensor, Tensor> lstm(const Tensor& input,
                                                const std::optional<Tensor>& lengths,
                                                const Tensor& h_0, const Tensor& c_0,
                                                at::TensorList weights, bool has_biases,
                                                const std::optional<Tensor>& packed, bool save) {
  const LayerOutputs out = layer_forward(
      {"lstm", CellKind::kLstm, input, lengths, h_0, c_0, weights, has_biases}, packed, save);
  return {out.output, out.h_n, out.c_n, out.saved};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lstm_backward(
    const Tensor& grad_output, const Tensor& grad_h_n, const Tensor& grad_c_n, const Tensor& input,
    const std::optional<Tensor>& lengths, const Tensor& h_0, const Tensor& c_0,
    at::TensorList weights, bool has_biases, const Tensor& output, const Tensor& saved,
    std::optional<at::ScalarType> dtype, std::array<bool, 2> wanted) {
  const LayerGradients g = layer_backward(
      {"lstm_backward", CellKind::kLstm, input, lengths, h_0, c_0, weights, has_biases},
      {output, saved, grad_output, grad_h_n, grad_c_n, dtype, wanted});
  return {g.input, g.h_0, g.c_0, g.weight_ih, g.weight_hh, g.bias_ih, g.weight_hr};
}

Tensor lstm_pack(at::TensorList weights, bool has_biases, std::optional<at::ScalarType> dtype) {
  return layer_pack("lstm_pack", CellKind::kLstm, weights, has_biases, dtype);
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CPU, m) {
  m.impl("lstm", &lstm);
  m.impl("lstm_backward", &lstm_backward);
  m.impl("lstm_pack", &lstm_pack);
}

}  // namespace seq2seq_ext
