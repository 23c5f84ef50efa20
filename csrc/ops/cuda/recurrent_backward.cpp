#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>

#include "recurrent_order.h"

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;

// The gradients that the steps leave, in packed order.
struct StepGradients {
  Tensor gates_x, gates_h;  // [D, R, G*H]; the same unless a gate is split
  Tensor projected;         // [D, R, H] or undefined
  Tensor grad_projected;    // [D, R, P] or undefined
};

void check_given(const LayerInputs& in, const Sizes& s, const CellTraits& traits,
                 const LayerBackward& g) {
  const auto check = [&](const char* name, const Tensor& t, at::IntArrayRef shape) {
    check_like(in.op, name, t, in.input, "input");
    check_shape(in.op, name, t, shape);
  };
  check("output", g.output, {s.steps, s.batch, s.directions * s.output});
  check("grad_output", g.grad_output, g.output.sizes());
  check("grad_h_n", g.grad_h_n, in.h_0.sizes());
  check("saved", g.saved, {s.directions, s.steps * s.batch, traits.saved * s.hidden});
  if (traits.has_cell) check("grad_c_n", g.grad_c_n, in.c_0.sizes());
  TORCH_CHECK_VALUE(!g.dtype, in.op, ": dtype: expected None on CUDA, got ", *g.dtype);
}

template <typename T>
Tensor pack_weights(const LayerInputs& in, const Weights& weights) {
  const int64_t size = packed_backward_weights(in.cell, weights.sizes(), sizeof(T)).size;
  const Tensor packed =
      at::empty({weights.directions(), size}, in.input.options().dtype(at::kByte));
  for (int64_t d = 0; d < weights.directions(); ++d)
    pack_backward_weights<T>(in.cell, weights.sizes(), weights.direction<T>(d),
                             data<char>(packed) + d * size, current_stream(in.input));
  return packed;
}

template <typename T>
Sequence<const T> sequence(const Tensor& t) {
  return {data<const T>(t), t.stride(0), t.stride(1)};
}

// Runs the steps. grad_h and grad_c: of the last states, then of the first.
template <typename T>
StepGradients run_steps(const LayerInputs& in, const LayerBackward& given, const Weights& weights,
                        const Sizes& s, const Order& order, const Tensor& grad_h,
                        const Tensor& grad_c) {
  const CellTraits traits = cell_traits(in.cell);
  const auto options = in.input.options();
  // Rows that no step writes take part in the sums afterwards, as zeros.
  const auto make = [&](int64_t columns) {
    return at::zeros({s.directions, order.capacity, columns}, options);
  };
  StepGradients g;
  g.gates_x = make(traits.gates * s.hidden);
  g.gates_h = traits.split_gates ? make(traits.gates * s.hidden) : g.gates_x;
  if (s.projected) g.projected = make(s.hidden), g.grad_projected = make(s.output);
  const Tensor packed = pack_weights<T>(in, weights), saved = given.saved.contiguous();
  const Tensor output = dense_rows(given.output), grad_output = dense_rows(given.grad_output);
  const Tensor h_0 = in.h_0.contiguous();
  const Tensor c_0 = traits.has_cell ? in.c_0.contiguous() : Tensor();
  const Tensor counters = at::zeros({s.directions * s.batch}, options.dtype(at::kInt));
  RecurrentBackward<T> run{};
  set_run<T>(run, in, s, order, packed, h_0, counters);
  run.output = sequence<T>(output);
  run.grad_output = sequence<T>(grad_output);
  run.c_0 = data<const T>(c_0);
  run.saved = data<const T>(saved);
  run.saved_rows = saved.size(1);
  run.grad_h = data<Acc<T>>(grad_h);
  run.grad_c = data<Acc<T>>(grad_c);
  run.grad_gates_x = data<T>(g.gates_x);
  run.grad_gates_h = data<T>(g.gates_h);
  run.projected = data<T>(g.projected);
  run.grad_projected = data<T>(g.grad_projected);
  recurrent_backward<T>(run, current_stream(in.input));
  return g;
}

// The rows of a sequence that direction d reads; with `first`, those of the step before.
template <typename T>
Tensor packed_rows(const Tensor& any_sequence, const Order& order, int64_t d,
                   const Tensor& first = {}) {
  const Tensor from = dense_rows(any_sequence);
  const Tensor to = at::empty({order.capacity, from.size(2)}, from.options());
  PackRows<T> run{};
  run.batch = from.size(1);
  run.capacity = order.capacity;
  run.columns = from.size(2);
  run.places = data<const int64_t>(order.places) + d * order.capacity;
  run.active = order.ragged.active;
  run.from = sequence<T>(from);
  run.time_shift = !first.defined() ? 0 : d == 1 ? 1 : -1;
  run.first = data<const T>(first);
  run.to = data<T>(to);
  pack_rows<T>(run, current_stream(from));
  return to;
}

// gates_x W_ih of both directions, summed in the accumulator's type.
template <typename T>
Tensor input_gradient(const Tensor& gates_x, const Weights& weights, const Sizes& s,
                      const Order& order) {
  const auto options = gates_x.options();
  const Tensor packed = at::empty({s.directions, order.capacity, s.input},
                                  options.dtype(accumulator(gates_x.scalar_type())));
  const int64_t depth = gates_x.size(2);
  for (int64_t d = 0; d < s.directions; ++d) {
    const Tensor transposed = weights.weight_ih(d).t().contiguous();
    gemm<T>({order.capacity, s.input, depth,
             matrix(data<const T>(gates_x) + d * order.capacity * depth, depth),
             data<const T>(transposed), depth, nullptr},
            data<Acc<T>>(packed) + d * order.capacity * s.input, true, allows_tf32(),
            current_stream(gates_x));
  }
  const Tensor grad = at::empty({s.steps, s.batch, s.input}, options);
  unpack_rows<T>({order.ragged, s.directions, order.capacity, s.input, data<const Acc<T>>(packed),
                  data<T>(grad)},
                 current_stream(gates_x));
  return grad;
}

template <typename T>
LayerGradients backward(const LayerInputs& in, const LayerBackward& given) {
  const CellTraits traits = cell_traits(in.cell);
  const Weights weights(in.op, in.weights, in.has_biases, traits.gates, traits.has_cell,
                        check_type);
  const Sizes s = check_inputs(in, weights, traits.gates, check_type);
  check_given(in, s, traits, given);
  const Order order(in, s);
  const Tensor grad_h = widened(given.grad_h_n);
  const Tensor grad_c = traits.has_cell ? widened(given.grad_c_n) : Tensor();
  const StepGradients steps = run_steps<T>(in, given, weights, s, order, grad_h, grad_c);
  const auto options = in.input.options();
  const int64_t gate_rows = traits.gates * s.hidden;
  const int64_t directions = given.wants_weights() ? s.directions : 0;
  LayerGradients g;
  g.input = given.wants_input() ? input_gradient<T>(steps.gates_x, weights, s, order)
                                : at::empty({0}, options);
  g.h_0 = grad_h.to(in.input.scalar_type());
  if (traits.has_cell) g.c_0 = grad_c.to(in.input.scalar_type());
  g.weight_ih = at::empty({directions, gate_rows, s.input}, options);
  g.weight_hh = at::empty({directions, gate_rows, s.output}, options);
  g.weight_hr = at::empty({s.projected ? directions : 0, s.output, s.hidden}, options);
  for (int64_t d = 0; d < directions; ++d) {
    const auto weight_gradient = [d](const Tensor& to, const Tensor& grads, const Tensor& rows) {
      Tensor out = to[d];
      at::mm_out(out, grads[d].t(), rows);
    };
    const Tensor states = given.output.slice(2, d * s.output, (d + 1) * s.output);
    weight_gradient(g.weight_ih, steps.gates_x, packed_rows<T>(in.input, order, d));
    weight_gradient(g.weight_hh, steps.gates_h,
                    packed_rows<T>(states, order, d, in.h_0[d].contiguous()));
    if (s.projected) weight_gradient(g.weight_hr, steps.grad_projected, steps.projected[d]);
  }
  const auto bias = [&](const Tensor& gates) {
    return in.has_biases && directions ? gates.sum(1) : at::empty({0, gate_rows}, options);
  };
  g.bias_ih = bias(steps.gates_x);
  g.bias_hh = traits.split_gates ? bias(steps.gates_h) : g.bias_ih;
  return g;
}

LayerGradients backward_any(const LayerInputs& in, const LayerBackward& given) {
  const c10::DeviceGuard guard = guard_of(in.op, "input", in.input);
  check_type(in.op, "input", in.input);
  return with_type(in.input.scalar_type(), [&]<typename T>() { return backward<T>(in, given); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lstm_backward(
    const Tensor& grad_output, const Tensor& grad_h_n, const Tensor& grad_c_n, const Tensor& input,
    const std::optional<Tensor>& lengths, const Tensor& h_0, const Tensor& c_0,
    at::TensorList weights, bool has_biases, const Tensor& output, const Tensor& saved,
    std::optional<at::ScalarType> dtype, std::array<bool, 2> wanted) {
  const LayerGradients g = backward_any(
      {"lstm_backward", CellKind::kLstm, input, lengths, h_0, c_0, weights, has_biases},
      {output, saved, grad_output, grad_h_n, grad_c_n, dtype, wanted});
  return {g.input, g.h_0, g.c_0, g.weight_ih, g.weight_hh, g.bias_ih, g.weight_hr};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> gru_backward(
    const Tensor& grad_output, const Tensor& grad_h_n, const Tensor& input,
    const std::optional<Tensor>& lengths, const Tensor& h_0, at::TensorList weights,
    bool has_biases, const Tensor& output, const Tensor& saved, std::optional<at::ScalarType> dtype,
    std::array<bool, 2> wanted) {
  const LayerGradients g =
      backward_any({"gru_backward", CellKind::kGru, input, lengths, h_0, {}, weights, has_biases},
                   {output, saved, grad_output, grad_h_n, {}, dtype, wanted});
  return {g.input, g.h_0, g.weight_ih, g.weight_hh, g.bias_ih, g.bias_hh};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> rnn_backward(
    const Tensor& grad_output, const Tensor& grad_h_n, const Tensor& input,
    const std::optional<Tensor>& lengths, const Tensor& h_0, at::TensorList weights,
    bool has_biases, c10::string_view nonlinearity, const Tensor& output, const Tensor& saved,
    std::optional<at::ScalarType> dtype, std::array<bool, 2> wanted) {
  const char* op = "rnn_backward";
  const LayerGradients g = backward_any(
      {op, rnn_cell_kind(op, nonlinearity), input, lengths, h_0, {}, weights, has_biases},
      {output, saved, grad_output, grad_h_n, {}, dtype, wanted});
  return {g.input, g.h_0, g.weight_ih, g.weight_hh, g.bias_ih};
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CUDA, m) {
  m.impl("lstm_backward", &lstm_backward);
  m.impl("gru_backward", &gru_backward);
  m.impl("rnn_backward", &rnn_backward);
}

}  // namespace seq2seq_ext::cuda
