// Encoder, bridge and the attention's keys in one call where no gradient is wanted: for one short
// source, what surrounds a dozen ops takes as long as their kernels.
#include "encoder_inference.h"

#include <ATen/Functions.h>
#include <ATen/core/LegacyTypeDispatch.h>

#include "check.h"
#include "linear.h"
#include "packed.h"
#include "recurrent_run.h"

namespace seq2seq_ext {

namespace {

using at::Tensor;

constexpr const char* kOp = "encoder_inference";

Tensor multiply(const char* name, const MaybeTensors& linear, const Tensor& input) {
  TORCH_CHECK_VALUE(linear.size() == 3 && linear.get(0) && linear.get(2), kOp, ": ", name,
                    ": expected weight, bias or None, packed; got ", linear.size(), " tensors");
  return linear_forward(input, *linear.get(0), linear.get(1), linear.get(2));
}

// Both directions of layers over `features`, packed one tensor a layer.
RecurrentModule read_layers(c10::string_view cell, at::TensorList layers, int64_t features,
                            int64_t hidden) {
  RecurrentModule m{};
  TORCH_CHECK_VALUE(is_mode(cell, m.cell), kOp, ": cell: expected a mode of torch.nn, got ", cell);
  TORCH_CHECK_VALUE(!layers.empty() && hidden > 0, kOp,
                    ": layers, hidden_size: expected at least 1, got ", layers.size(), ", ",
                    hidden);
  m.layers = layers.size();
  m.directions = 2;
  m.type = weight_type(layers[0].scalar_type());
  const RecurrentKernels<float>& k = kernels<float>().cell(m.cell, m.type);
  for (const Tensor& packed : layers) {
    const RecurrentSizes sizes{m.sizes.empty() ? features : 2 * hidden, hidden, hidden, false};
    check_like(kOp, "layers", packed, layers[0], "layers[0]");
    const int64_t bytes = 2 * k.packed_forward_size(sizes);
    TORCH_CHECK_VALUE(
        packed.is_cpu() && packed.is_contiguous() && static_cast<int64_t>(packed.nbytes()) == bytes,
        kOp, ": layers: expected ", bytes, " bytes packed for the instruction set in force, got ",
        packed.nbytes());
    m.sizes.push_back(sizes);
    m.packed.push_back(&packed);
  }
  return m;
}

// finals [L*2, B, H] -> [decoder layers, B, H].
Tensor initial_states(const Tensor& finals, const MaybeTensors& bridge) {
  const int64_t batch = finals.size(1), hidden = finals.size(2);
  const Tensor both = finals.narrow(0, finals.size(0) - 2, 2).transpose(0, 1);
  const Tensor states = multiply("bridge", bridge, both.reshape({batch, 2 * hidden})).tanh_();
  TORCH_CHECK_VALUE(states.size(1) % hidden == 0, kOp, ": bridge: expected a multiple of ", hidden,
                    " outputs, got ", states.size(1));
  return states.view({batch, states.size(1) / hidden, hidden}).transpose(0, 1);
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> encoder_inference(const Tensor& src, const Tensor& any_lengths,
                                                     const std::optional<Tensor>& embedding,
                                                     c10::string_view cell, at::TensorList layers,
                                                     int64_t hidden, const MaybeTensors& projection,
                                                     const MaybeTensors& bridge,
                                                     const MaybeTensors& cell_bridge,
                                                     const MaybeTensors& keys, bool feeds) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  const Tensor input = dense_rows(embedding ? at::embedding(*embedding, src) : src);
  check_dim(kOp, "src", input, 3, "[B, S, features]");
  TORCH_CHECK_TYPE(input.scalar_type() == at::kFloat && input.is_cpu(), kOp,
                   ": src: expected float32 on cpu, got ", input.scalar_type(), " on ",
                   input.device());
  const int64_t batch = input.size(0), steps = input.size(1), width = 2 * hidden;
  const RecurrentModule m = read_layers(cell, layers, input.size(2), hidden);
  const Ragged ragged(check_lengths(kOp, "lengths", any_lengths, batch, steps), batch, steps);
  const auto empty = [&](at::IntArrayRef shape) { return at::empty(shape, input.options()); };

  Tensor memory = empty({batch, steps, width});
  if (ragged.is_ragged(steps)) memory.zero_();
  const Tensor h_n = empty({2 * m.layers, batch, hidden}),
               c_n = m.cell == CellKind::kLstm ? at::empty_like(h_n) : h_n;
  run_module(m, {ragged, steps, strided(input, input.stride(1), input.stride(0)), nullptr, nullptr,
                 strided(memory, width, steps * width), h_n.data_ptr(), c_n.data_ptr()});

  std::vector<Tensor> state{initial_states(h_n, bridge)};
  if (m.cell == CellKind::kLstm) state.push_back(initial_states(c_n, cell_bridge));
  if (feeds) state.push_back(at::zeros({1, batch, hidden}, input.options()));
  if (!projection.empty()) memory = multiply("projection", projection, memory);
  return {memory, keys.empty() ? memory : multiply("keys", keys, memory), at::cat(state)};
}

}  // namespace seq2seq_ext
