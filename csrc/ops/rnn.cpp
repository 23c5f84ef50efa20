#include <torch/library.h>

#include "recurrent_inputs.h"

namespace seq2seq_ext {

namespace {

using at::Tensor;

std::tuple<Tensor, Tensor, Tensor> rnn(const Tensor& input, const std::optional<Tensor>& lengths,
                                       const Tensor& h_0, at::TensorList weights, bool has_biases,
                                       c10::string_view nonlinearity,
                                       const std::optional<Tensor>& packed, bool save) {
  const LayerOutputs out = layer_forward(
      {"rnn", rnn_cell_kind("rnn", nonlinearity), input, lengths, h_0, {}, weights, has_biases},
      packed, save);
  return {out.output, out.h_n, out.saved};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> rnn_backward(
    const Tensor& grad_output, const Tensor& grad_h_n, const Tensor& input,
    const std::optional<Tensor>& lengths, const Tensor& h_0, at::TensorList weights,
    bool has_biases, c10::string_view nonlinearity, const Tensor& output, const Tensor& saved,
    std::optional<at::ScalarType> dtype, std::array<bool, 2> wanted) {
  const LayerGradients g =
      layer_backward({"rnn_backward",
                      rnn_cell_kind("rnn_backward", nonlinearity),
                      input,
                      lengths,
                      h_0,
                      {},
                      weights,
                      has_biases},
                     {output, saved, grad_output, grad_h_n, {}, dtype, wanted});
  return {g.input, g.h_0, g.weight_ih, g.weight_hh, g.bias_ih};
}

Tensor rnn_pack(at::TensorList weights, bool has_biases, std::optional<at::ScalarType> dtype) {
  return layer_pack("rnn_pack", CellKind::kRnnTanh, weights, has_biases, dtype);
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CPU, m) {
  m.impl("rnn", &rnn);
  m.impl("rnn_backward", &rnn_backward);
  m.impl("rnn_pack", &rnn_pack);
}

}  // namespace seq2seq_ext
