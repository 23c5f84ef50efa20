#include "recurrent.h"

#include <ATen/Dispatch.h>
#include <ATen/Functions.h>

#include <algorithm>
#include <vector>

#include "check.h"
#include "huge_tensor.h"
#include "packed.h"
#include "recurrent_kernels.h"
#include "recurrent_team.h"

namespace seq2seq_ext {

namespace {

template <typename T>
at::Tensor pack_forward(const RecurrentKernels<T>& k, const Weights& weights,
                        at::ScalarType dtype) {
  const int64_t bytes = k.packed_forward_size(weights.sizes());
  return pack_directions<T>(weights, dtype, bytes, k.pack_forward);
}

template <typename T>
LayerOutputs forward(const LayerInputs& in, const std::optional<at::Tensor>& given, bool save) {
  const WeightType type = given ? check_packed(in.op, *given, in.input) : WeightType::kFloat32;
  const RecurrentKernels<T>& k = cell_kernels<T>(in.cell, type);
  const Weights weights(in.op, in.weights, in.has_biases, k.gates, k.has_cell);
  const Sizes s = check_inputs(in, weights, k.gates);
  const Ragged ragged(check_row_lengths(in, s), s.batch, s.steps);
  TORCH_CHECK_VALUE(!save || type != WeightType::kInt8, in.op, ": packed: expected ",
                    in.input.scalar_type(), " or bfloat16 where gradients are wanted, got ",
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
  const auto make = ragged.is_ragged(s.steps) ? huge_zeros : huge_empty;
  out.output = make({s.steps, s.batch, s.directions * s.output}, options);
  out.h_n = at::empty_like(h_0);
  if (k.has_cell) out.c_n = at::empty_like(c_0);
  const int64_t saved_rows = save ? s.steps * s.batch : 0;
  // Rows that padding left over stay defined, so that every output is deterministic.
  out.saved = make({s.directions, saved_rows, k.saved * s.hidden}, options);

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

}  // namespace

LayerOutputs layer_forward(const LayerInputs& in, const std::optional<at::Tensor>& packed,
                           bool save) {
  check_floating(in.op, "input", in.input);
  return in.input.scalar_type() == at::kFloat ? forward<float>(in, packed, save)
                                              : forward<double>(in, packed, save);
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
