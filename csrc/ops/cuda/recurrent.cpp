#include "kernels/cuda/recurrent.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>

#include "recurrent_order.h"

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;

template <typename T>
PlacedRows<const T> placed(const Tensor& sequence, const Order& order, int64_t d) {
  return {data<const T>(sequence), data<const int64_t>(order.places) + d * order.capacity,
          sequence.size(1), sequence.stride(0), sequence.stride(1)};
}

template <typename T>
Tensor pack(const LayerInputs& in, const Weights& weights, const PackedWeights& at) {
  const Tensor packed =
      at::empty({weights.directions(), at.size}, in.input.options().dtype(at::kByte));
  for (int64_t d = 0; d < weights.directions(); ++d)
    pack_weights<T>(in.cell, weights.sizes(), weights.direction<T>(d),
                    data<char>(packed) + d * at.size, current_stream(in.input));
  return packed;
}

// Of both directions, with bias_x: [D, R, G*H].
template <typename T>
Tensor project_input(const Tensor& input, const Weights& weights, const Order& order,
                     const Tensor& packed, const PackedWeights& at) {
  const int64_t columns = weights.weight_ih(0).size(0), depth = weights.weight_ih(0).size(1);
  const Tensor gates = at::empty({weights.directions(), order.capacity, columns},
                                 input.options().dtype(accumulator(input.scalar_type())));
  for (int64_t d = 0; d < weights.directions(); ++d) {
    const char* const bias = data<const char>(packed) + d * at.size + at.bias_x;
    gemm<T>({order.capacity, columns, depth, placed<T>(input, order, d),
             data<const T>(weights.weight_ih(d)), depth, reinterpret_cast<const Acc<T>*>(bias)},
            data<Acc<T>>(gates) + d * order.capacity * columns, true, allows_tf32(),
            current_stream(input));
  }
  return gates;
}

template <typename T>
LayerOutputs forward(const LayerInputs& in, const CellTraits& traits, bool save) {
  const Weights weights(in.op, in.weights, in.has_biases, traits.gates, traits.has_cell,
                        check_type);
  const Sizes s = check_inputs(in, weights, traits.gates, check_type);
  const Order order(in, s);
  const PackedWeights at = packed_weights(in.cell, s, sizeof(T), sizeof(Acc<T>));
  const Tensor packed = pack<T>(in, weights, at);
  const Tensor input = dense_rows(in.input), h_0 = in.h_0.contiguous();
  const Tensor gates_x = project_input<T>(input, weights, order, packed, at);
  const auto options = input.options();
  const auto make = [&](at::IntArrayRef shape) {
    return in.lengths ? at::zeros(shape, options) : at::empty(shape, options);
  };
  LayerOutputs out;
  out.output = make({s.steps, s.batch, s.directions * s.output});
  out.h_n = h_0.clone();
  const int64_t saved_rows = save ? s.steps * s.batch : 0;
  out.saved = make({s.directions, saved_rows, traits.saved * s.hidden});
  Tensor c;
  if (traits.has_cell) c = widened(in.c_0);
  const Tensor unprojected =
      s.projected ? at::empty({s.directions, s.batch, s.hidden}, options) : Tensor();
  const Tensor counters = at::zeros({s.directions * s.batch}, options.dtype(at::kInt));
  RecurrentForward<T> run{};
  set_run<T>(run, in, s, order, packed, h_0, counters);
  run.gates_x = data<const Acc<T>>(gates_x);
  run.output = {data<T>(out.output), out.output.stride(0), out.output.stride(1)};
  run.h_n = data<T>(out.h_n);
  run.c = data<Acc<T>>(c);
  run.saved = save ? data<T>(out.saved) : nullptr;
  run.saved_rows = saved_rows;
  run.unprojected = data<T>(unprojected);
  recurrent_forward<T>(run, current_stream(input));
  if (traits.has_cell) out.c_n = c.to(input.scalar_type());
  return out;
}

LayerOutputs forward_any(const LayerInputs& in, const std::optional<Tensor>& packed, bool save) {
  const c10::DeviceGuard guard(in.input.device());
  check_type(in.op, "input", in.input);
  TORCH_CHECK_VALUE(!packed, in.op, ": packed: expected None on CUDA, where weights are packed at ",
                    "every call, got a tensor");
  return with_type(in.input.scalar_type(),
                   [&]<typename T>() { return forward<T>(in, cell_traits(in.cell), save); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> lstm(const Tensor& input,
                                                const std::optional<Tensor>& lengths,
                                                const Tensor& h_0, const Tensor& c_0,
                                                at::TensorList weights, bool has_biases,
                                                const std::optional<Tensor>& packed, bool save) {
  const LayerOutputs out = forward_any(
      {"lstm", CellKind::kLstm, input, lengths, h_0, c_0, weights, has_biases}, packed, save);
  return {out.output, out.h_n, out.c_n, out.saved};
}

std::tuple<Tensor, Tensor, Tensor> gru(const Tensor& input, const std::optional<Tensor>& lengths,
                                       const Tensor& h_0, at::TensorList weights, bool has_biases,
                                       const std::optional<Tensor>& packed, bool save) {
  const LayerOutputs out = forward_any(
      {"gru", CellKind::kGru, input, lengths, h_0, {}, weights, has_biases}, packed, save);
  return {out.output, out.h_n, out.saved};
}

std::tuple<Tensor, Tensor, Tensor> rnn(const Tensor& input, const std::optional<Tensor>& lengths,
                                       const Tensor& h_0, at::TensorList weights, bool has_biases,
                                       c10::string_view nonlinearity,
                                       const std::optional<Tensor>& packed, bool save) {
  const LayerOutputs out = forward_any(
      {"rnn", rnn_cell_kind("rnn", nonlinearity), input, lengths, h_0, {}, weights, has_biases},
      packed, save);
  return {out.output, out.h_n, out.saved};
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CUDA, m) {
  m.impl("lstm", &lstm);
  m.impl("gru", &gru);
  m.impl("rnn", &rnn);
}

}  // namespace seq2seq_ext::cuda
