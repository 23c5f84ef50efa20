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
T* slab(const Tensor& t, int64_t d) {
  return t.defined() ? data<T>(t) + d * t.stride(0) : nullptr;
}

// One step of every row, as decoding asks for: nothing is packed or sorted.
template <typename T>
LayerOutputs step(const LayerInputs& in, const Weights& weights, const Sizes& s, bool save) {
  const CellTraits traits = cell_traits(in.cell);
  const Tensor input = dense_rows(in.input.select(0, 0)), h_0 = in.h_0.contiguous();
  const auto options = input.options();
  LayerOutputs out;
  out.output = at::empty({1, s.batch, s.directions * s.output}, options);
  out.h_n = at::empty_like(h_0);
  out.saved = at::empty({s.directions, save ? s.batch : 0, traits.saved * s.hidden}, options);
  Tensor c_0;
  if (traits.has_cell) c_0 = in.c_0.contiguous(), out.c_n = at::empty_like(c_0);
  Tensor unprojected;
  if (s.projected) unprojected = at::empty({s.batch, s.hidden}, options);
  for (int64_t d = 0; d < s.directions; ++d) {
    const RecurrentWeights<T> w = weights.direction<T>(d);
    RecurrentStep<T> run{in.cell, s, s.batch, allows_tf32(), w};
    run.input = data<const T>(input), run.input_stride = input.stride(0);
    run.h_0 = slab<const T>(h_0, d), run.c_0 = slab<const T>(c_0, d);
    run.c_n = slab<T>(out.c_n, d);
    run.saved = save ? slab<T>(out.saved, d) : nullptr;
    if (!s.projected) {
      run.h_n = slab<T>(out.h_n, d);
      run.output = data<T>(out.output) + d * s.output, run.output_stride = out.output.stride(1);
      recurrent_step<T>(run, current_stream(input));
      continue;
    }
    run.h_n = data<T>(unprojected);
    recurrent_step<T>(run, current_stream(input));
    gemm<T>({s.batch, s.output, s.hidden, matrix(slab<const T>(unprojected, 0), s.hidden),
             w.weight_hr, s.hidden, nullptr},
            slab<T>(out.h_n, d), false, allows_tf32(), current_stream(input));
    out.output.narrow(2, d * s.output, s.output).copy_(out.h_n[d]);
  }
  return out;
}

template <typename T>
LayerOutputs forward(const LayerInputs& in, const CellTraits& traits, bool save) {
  const Weights weights(in.op, in.weights, in.has_biases, traits.gates, traits.has_cell,
                        check_type);
  const Sizes s = check_inputs(in, weights, traits.gates, check_type);
  if (s.steps == 1 && !in.lengths) return step<T>(in, weights, s, save);
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
  const c10::DeviceGuard guard = guard_of(in.op, "input", in.input);
  check_type(in.op, "input", in.input);
  TORCH_CHECK_VALUE(!packed, in.op, ": packed: expected None on CUDA, where layers keep none, got ",
                    "a tensor");
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
