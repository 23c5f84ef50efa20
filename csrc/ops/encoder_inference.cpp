// Encoder, bridge and the attention's keys in one call where no gradient is wanted: for one short
// source, what surrounds a dozen ops takes as long as their kernels.
#include "encoder_inference.h"

#include <ATen/Functions.h>
#include <ATen/core/LegacyTypeDispatch.h>

#include <algorithm>

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

// Embeddings [B, S, E] of src.
Tensor embed(const Tensor& src, const Tensor& any_weight) {
  check_dim(kOp, "src", src, 2, "[B, S]");
  TORCH_CHECK_TYPE(src.scalar_type() == at::kLong && src.is_cpu(), kOp,
                   ": src: expected int64 on cpu, got ", src.scalar_type(), " on ", src.device());
  check_dim(kOp, "embedding", any_weight, 2, "[V, E]");
  TORCH_CHECK_TYPE(any_weight.scalar_type() == at::kFloat && any_weight.is_cpu(), kOp,
                   ": embedding: expected float32 on cpu, got ", any_weight.scalar_type(), " on ",
                   any_weight.device());
  const Tensor weight = any_weight.contiguous(), ids = src.contiguous();
  const int64_t vocabulary = weight.size(0), size = weight.size(1);
  const Tensor found = at::empty({src.size(0), src.size(1), size}, weight.options());
  const auto* id = ids.const_data_ptr<int64_t>();
  const auto* from = weight.const_data_ptr<float>();
  auto* to = found.data_ptr<float>();
  for (const int64_t* end = id + ids.numel(); id < end; ++id, to += size) {
    TORCH_CHECK_INDEX(*id >= 0 && *id < vocabulary, kOp,
                      ": src: index out of range: expected 0 to ", vocabulary - 1, ", got ", *id);
    std::copy_n(from + *id * size, size, to);
  }
  return found;
}

// Final states [L*2, B, H] of h or c to those of N decoder layers, [B, N*H], before their tanh.
Tensor cross(const Tensor& finals, const MaybeTensors& bridge) {
  const int64_t batch = finals.size(1), hidden = finals.size(2);
  const Tensor both = at::empty({batch, 2 * hidden}, finals.options());
  const float* from = finals.const_data_ptr<float>() + (finals.size(0) - 2) * finals.stride(0);
  for (int64_t direction = 0; direction < 2; ++direction)
    for (int64_t row = 0; row < batch; ++row, from += hidden)
      std::copy_n(from, hidden, both.data_ptr<float>() + (2 * row + direction) * hidden);
  const Tensor states = multiply("bridge", bridge, both);
  TORCH_CHECK_VALUE(states.size(1) % hidden == 0, kOp, ": bridge: expected a multiple of ", hidden,
                    " outputs, got ", states.size(1));
  return states;
}

// The decoder's initial state [parts, B, H] of h and maybe c, [B, N*H] each.
Tensor initial_state(const std::vector<Tensor>& crossed, int64_t hidden, bool feeds) {
  const int64_t batch = crossed[0].size(0);
  int64_t bridged = 0;
  for (const Tensor& each : crossed) bridged += each.size(1) / hidden;
  const Tensor state = at::empty({bridged + feeds, batch, hidden}, crossed[0].options());
  auto* to = state.data_ptr<float>();
  for (const Tensor& each : crossed)
    for (int64_t part = 0; part < each.size(1); part += hidden)
      for (int64_t row = 0; row < batch; ++row, to += hidden)
        std::copy_n(each.const_data_ptr<float>() + row * each.size(1) + part, hidden, to);
  state.narrow(0, 0, bridged).tanh_();
  if (feeds) std::fill_n(to, batch * hidden, 0.0f);
  return state;
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
  const Tensor input = embedding ? embed(src, *embedding) : dense_rows(src);
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

  std::vector<Tensor> crossed{cross(h_n, bridge)};
  if (m.cell == CellKind::kLstm) crossed.push_back(cross(c_n, cell_bridge));
  const Tensor state = initial_state(crossed, hidden, feeds);
  if (!projection.empty()) memory = multiply("projection", projection, memory);
  return {memory, keys.empty() ? memory : multiply("keys", keys, memory), state};
}

}  // namespace seq2seq_ext
