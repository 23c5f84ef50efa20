#include "recurrent.h"

#include <ATen/Dispatch.h>
#include <ATen/Functions.h>

#include <algorithm>
#include <vector>

#include "check.h"
#include "packed.h"
#include "products.h"
#include "recurrent_inputs.h"
#include "recurrent_team.h"

namespace seq2seq_ext {

namespace {

template <typename T>
const RecurrentKernels<T>& cell_kernels(CellKind cell, WeightType type = WeightType::kFloat32) {
  return kernels<T>().cell(cell, type);
}

// Direction d's part of a tensor [D, ...].
template <typename T>
T* slab(const at::Tensor& t, int64_t d) {
  if (!t.defined() || !t.numel()) return nullptr;
  return reinterpret_cast<T*>(static_cast<char*>(t.data_ptr()) + d * t.stride(0) * t.itemsize());
}

template <typename T>
at::Tensor pack_directions(const Weights& weights, at::ScalarType dtype, int64_t bytes,
                           void (*pack)(const RecurrentSizes&, const RecurrentWeights<T>&, void*)) {
  const RecurrentSizes sizes = weights.sizes();
  const int64_t size = bytes / c10::elementSize(dtype);
  at::Tensor packed =
      at::empty({weights.directions(), size}, weights.weight_ih(0).options().dtype(dtype));
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t d = begin; d < end; ++d)
      pack(sizes, weights.direction<T>(d), slab<void>(packed, d));
  };
  if (max_threads() == 1)
    run(0, weights.directions());
  else
    at::parallel_for(0, weights.directions(), 1, run);
  return packed;
}

template <typename T>
at::Tensor pack_forward(const RecurrentKernels<T>& k, const Weights& weights,
                        at::ScalarType dtype) {
  const int64_t bytes = k.packed_forward_size(weights.sizes());
  return pack_directions<T>(weights, dtype, bytes, k.pack_forward);
}

template <typename T>
Sequence<T> sequence(T* data, const at::Tensor& t, int64_t feature) {
  return {data + feature * t.stride(2), t.stride(0), t.stride(1)};
}

template <typename T>
LayerOutputs forward(const LayerInputs& in, const std::optional<at::Tensor>& given, bool save) {
  const WeightType type = given ? check_packed(in.op, *given, in.input) : WeightType::kFloat32;
  const RecurrentKernels<T>& k = cell_kernels<T>(in.cell, type);
  const Weights weights(in.op, in.weights, in.has_biases, k.gates, k.has_cell);
  const Sizes s = check_inputs(in, weights, k.gates);
  const Ragged ragged(check_row_lengths(in, s), s.batch, s.steps);
  TORCH_CHECK_VALUE(!save || type == WeightType::kFloat32, in.op, ": packed: expected ",
                    in.input.scalar_type(), " where gradients are wanted, got ",
                    given->scalar_type());
  if (given)
    check_shape(in.op, "packed", *given,
                {s.directions, k.packed_forward_size(s) / static_cast<int64_t>(given->itemsize())});
  const at::Tensor packed =
      given ? given->contiguous() : pack_forward(k, weights, in.input.scalar_type());
  const at::Tensor input = dense_rows(in.input), h_0 = in.h_0.contiguous();
  const at::Tensor c_0 = in.c_0.defined() ? in.c_0.contiguous() : at::Tensor();
  const auto options = input.options();
  LayerOutputs out;
  out.output = ragged.is_ragged(s.steps)
                   ? at::zeros({s.steps, s.batch, s.directions * s.output}, options)
                   : at::empty({s.steps, s.batch, s.directions * s.output}, options);
  out.h_n = at::empty_like(h_0);
  if (k.has_cell) out.c_n = at::empty_like(c_0);
  const int64_t saved_rows = save ? s.steps * s.batch : 0;
  out.saved = at::empty({s.directions, saved_rows, k.saved * s.hidden}, options);
  // Rows that padding left over stay defined, so that every output is deterministic.
  if (save) out.saved.slice(1, ragged.total()).zero_();

  std::vector<RecurrentForward<T>> args(s.directions);
  std::vector<at::Tensor> workspaces(s.directions);
  const auto prepare = [&](int64_t d, int threads) {
    workspaces[d] = at::empty({k.forward_workspace(s, s.batch, threads)}, options.dtype(at::kByte));
    args[d] = {ragged.view(),
               s,
               d == 1,
               slab<void>(packed, d),
               sequence<const T>(input.data_ptr<T>(), input, 0),
               sequence<T>(out.output.data_ptr<T>(), out.output, d * s.output),
               slab<T>(h_0, d),
               slab<T>(out.h_n, d),
               slab<T>(c_0, d),
               slab<T>(out.c_n, d),
               slab<T>(out.saved, d),
               workspaces[d].data_ptr()};
  };
  run_directions(s, 1, ragged, prepare,
                 [&](int64_t, int64_t d, const Team& team) { k.forward(args[d], team); });
  return out;
}

// Pointers to the rows (s, b) of a packed batch, in packed order.
template <typename T, class Row>
std::vector<T*> row_pointers(const Ragged& ragged, bool reverse, const Row& row) {
  const RaggedBatch r = ragged.view();
  std::vector<T*> pointers;
  pointers.reserve(ragged.total());
  for (int64_t s = 0; s < r.steps; ++s)
    for (int64_t b = 0; b < r.active[s]; ++b)
      pointers.push_back(row(reverse ? r.lengths[b] - 1 - s : s, s, r.rows[b]));
  return pointers;
}

template <typename T>
LayerGradients backward(const LayerInputs& in, const at::Tensor& output, const at::Tensor& saved,
                        const at::Tensor& grad_output_any, const at::Tensor& grad_h_n,
                        const at::Tensor& grad_c_n) {
  const RecurrentKernels<T>& k = cell_kernels<T>(in.cell);
  const Weights weights(in.op, in.weights, in.has_biases, k.gates, k.has_cell);
  const Sizes s = check_inputs(in, weights, k.gates);
  const Ragged ragged(check_row_lengths(in, s), s.batch, s.steps);
  const int64_t rows = ragged.total(), gate_rows = k.gates * s.hidden;
  check_shape(in.op, "output", output, {s.steps, s.batch, s.directions * s.output});
  check_shape(in.op, "grad_output", grad_output_any, output.sizes());
  check_shape(in.op, "grad_h_n", grad_h_n, in.h_0.sizes());
  check_shape(in.op, "saved", saved, {s.directions, s.steps * s.batch, k.saved * s.hidden});
  if (k.has_cell) check_shape(in.op, "grad_c_n", grad_c_n, in.c_0.sizes());

  const at::Tensor input = dense_rows(in.input), h_0 = in.h_0.contiguous();
  const at::Tensor c_0 = in.c_0.defined() ? in.c_0.contiguous() : at::Tensor();
  const at::Tensor grad_output = dense_rows(grad_output_any);
  const at::Tensor state = dense_rows(output), kept = saved.contiguous();
  const at::Tensor packed =
      pack_directions<T>(weights, input.scalar_type(), k.packed_backward_size(s), k.pack_backward);
  const auto options = input.options();
  const int64_t projected_rows = s.projected ? rows : 0;
  LayerGradients g;
  g.input = at::zeros(input.sizes(), options);
  g.h_0 = grad_h_n.clone(at::MemoryFormat::Contiguous);
  if (k.has_cell) g.c_0 = grad_c_n.clone(at::MemoryFormat::Contiguous);
  const at::Tensor gates_x = at::empty({s.directions, rows, gate_rows}, options);
  const at::Tensor gates_h = k.split_gates ? at::empty_like(gates_x) : gates_x;
  const at::Tensor projected = at::empty({s.directions, projected_rows, s.hidden}, options);
  const at::Tensor grad_projected = at::empty({s.directions, projected_rows, s.output}, options);

  std::vector<RecurrentBackward<T>> args(s.directions);
  const auto prepare = [&](int64_t d, int) {
    args[d] = {ragged.view(),
               s,
               d == 1,
               slab<void>(packed, d),
               sequence<const T>(state.data_ptr<T>(), state, d * s.output),
               sequence<const T>(grad_output.data_ptr<T>(), grad_output, d * s.output),
               slab<T>(h_0, d),
               slab<T>(c_0, d),
               slab<T>(kept, d),
               slab<T>(g.h_0, d),
               slab<T>(g.c_0, d),
               slab<T>(gates_x, d),
               slab<T>(gates_h, d),
               slab<T>(projected, d),
               slab<T>(grad_projected, d)};
  };
  run_directions(s, 1, ragged, prepare,
                 [&](int64_t, int64_t d, const Team& team) { k.backward(args[d], team); });

  g.weight_ih = at::empty({s.directions, gate_rows, s.input}, options);
  g.weight_hh = at::empty({s.directions, gate_rows, s.output}, options);
  g.weight_hr = at::empty({s.projected ? s.directions : 0, s.output, s.hidden}, options);
  const GemmKernels<T>& gemm = kernels<T>().gemm[WeightType::kFloat32];
  for (int64_t d = 0; d < s.directions; ++d) {
    const T* x = input.const_data_ptr<T>();
    const auto inputs = row_pointers<const T>(ragged, d == 1, [&](int64_t t, int64_t, int64_t b) {
      return x + t * input.stride(0) + b * input.stride(1);
    });
    const auto states =
        row_pointers<const T>(ragged, d == 1, [&](int64_t t, int64_t step, int64_t b) {
          const int64_t before = d == 1 ? t + 1 : t - 1;
          return step == 0 ? args[d].h_0 + b * s.output
                           : args[d].output.data + before * state.stride(0) + b * state.stride(1);
        });
    weight_gradient<T>(gemm, gates_x[d], inputs, g.weight_ih[d]);
    weight_gradient<T>(gemm, gates_h[d], states, g.weight_hh[d]);
    if (s.projected)
      weight_gradient<T>(gemm, grad_projected[d],
                         matrix_rows<const T>(args[d].projected, rows, s.hidden), g.weight_hr[d]);
    T* dx = g.input.data_ptr<T>();
    const auto grads = row_pointers<T>(ragged, d == 1, [&](int64_t t, int64_t, int64_t b) {
      return dx + t * g.input.stride(0) + b * g.input.stride(1);
    });
    input_gradient<T>(gemm, gates_x[d], weights.weight_ih(d), grads, d == 1);
  }
  const auto bias = [&](const at::Tensor& gates) {
    return in.has_biases ? gates.sum(1) : at::empty({0, gate_rows}, options);
  };
  g.bias_ih = bias(gates_x);
  g.bias_hh = k.split_gates ? bias(gates_h) : g.bias_ih;
  return g;
}

}  // namespace

LayerOutputs layer_forward(const LayerInputs& in, const std::optional<at::Tensor>& packed,
                           bool save) {
  check_floating(in.op, "input", in.input);
  return in.input.scalar_type() == at::kFloat ? forward<float>(in, packed, save)
                                              : forward<double>(in, packed, save);
}

LayerGradients layer_backward(const LayerInputs& in, const at::Tensor& output,
                              const at::Tensor& saved, const at::Tensor& grad_output,
                              const at::Tensor& grad_h_n, const at::Tensor& grad_c_n) {
  check_floating(in.op, "input", in.input);
  for (const auto& [name, grad] :
       {std::pair{"output", output}, std::pair{"saved", saved},
        std::pair{"grad_output", grad_output}, std::pair{"grad_h_n", grad_h_n}})
    check_like(in.op, name, grad, in.input, "input");
  return in.input.scalar_type() == at::kFloat
             ? backward<float>(in, output, saved, grad_output, grad_h_n, grad_c_n)
             : backward<double>(in, output, saved, grad_output, grad_h_n, grad_c_n);
}

at::Tensor layer_pack(const char* op, CellKind cell, at::TensorList weights, bool has_biases,
                      std::optional<at::ScalarType> asked) {
  TORCH_CHECK_VALUE(!weights.empty(), op, ": weights: expected at least 2 tensors, got 0");
  check_floating(op, "weights", weights[0]);
  const auto pack = [&]<typename T>(const RecurrentKernels<T>& k) {
    const Weights checked(op, weights, has_biases, k.gates, k.has_cell);
    const RecurrentSizes s = checked.sizes();
    const at::ScalarType dtype =
        packed_dtype(op, weights[0], asked, std::max({s.input, s.hidden, s.output}));
    return pack_forward<T>(cell_kernels<T>(cell, weight_type(dtype)), checked, dtype);
  };
  return weights[0].scalar_type() == at::kFloat ? pack(cell_kernels<float>(cell))
                                                : pack(cell_kernels<double>(cell));
}

int64_t layer_packed_size(CellKind cell, const RecurrentSizes& sizes, at::ScalarType dtype) {
  const int64_t bytes =
      dtype == at::kDouble
          ? cell_kernels<double>(cell).packed_forward_size(sizes)
          : cell_kernels<float>(cell, weight_type(dtype)).packed_forward_size(sizes);
  return bytes / c10::elementSize(dtype);
}

}  // namespace seq2seq_ext
