#include <algorithm>

#include "attentional_decoder.h"
#include "packed.h"

namespace seq2seq_ext {

namespace {

template <typename T>
const DecoderCell<T>& cell_of(CellKind kind) {
  const AttentionalDecoderKernels<T>& k = kernels<T>().attentional_decoder;
  const DecoderCell<T>* const cells[] = {&k.lstm, &k.gru, &k.rnn_tanh, &k.rnn_relu};
  return *cells[static_cast<int>(kind)];
}

DecoderCellShape cell_shape(CellKind kind) {
  const DecoderCell<double>& k = cell_of<double>(kind);
  return {k.gates, k.merged, k.saved, k.has_cell};
}

}  // namespace

DecoderBatch::DecoderBatch(const DecoderArguments& args, std::optional<at::ScalarType> dtype)
    : DecoderTensors(args, cell_shape, check_lengths), weight_type(product_type(op, input, dtype)) {
  std::optional<at::Tensor> row_lengths;
  if (lengths.defined()) row_lengths = lengths;
  ragged.emplace(row_lengths, batch, steps);
}

int DecoderBatch::team_size() const {
  constexpr int64_t kFlopsPerMember = 2'000'000;
  return std::clamp<int64_t>(flops_per_step() / kFlopsPerMember, 1, max_threads());
}

int64_t DecoderBatch::flops_per_step() const {
  const int64_t longest = std::max<int64_t>(ragged->view().steps, 1);
  return 2 * sizes.hidden *
         (2 * sizes.layers * gates * sizes.hidden + sizes.attention + sizes.memory + sizes.hidden) *
         ragged->total() / longest;
}

template <typename T>
std::vector<DecoderLayer<T>> DecoderBatch::layers() const {
  const int64_t state = batch * sizes.hidden;
  std::vector<DecoderLayer<T>> layers(sizes.layers);
  for (int64_t l = 0; l < sizes.layers; ++l) {
    layers[l].h_0 = h_0.const_data_ptr<T>() + l * state;
    layers[l].c_0 = c_0.defined() ? c_0.const_data_ptr<T>() + l * state : nullptr;
    layers[l].mask = layer_masks.defined() && l + 1 < sizes.layers
                         ? layer_masks.const_data_ptr<T>() + l * steps * state
                         : nullptr;
  }
  return layers;
}

template <typename T>
DecoderInputs<T> DecoderBatch::inputs(const std::vector<DecoderLayer<T>>& layers) const {
  DecoderInputs<T> in{};
  in.ragged = ragged->view();
  in.sizes = sizes;
  in.cell = cell;
  in.weight_type = weight_type;
  in.layers = layers.data();
  in.vector_0 = vector_0.const_data_ptr<T>();
  in.vector_mask = vector_mask.defined() ? vector_mask.const_data_ptr<T>() : nullptr;
  in.scale = is_additive() ? T(1) : static_cast<T>(scale);
  if (!attends()) return in;
  in.keys = {keys.const_data_ptr<T>(), keys.stride(1)};
  in.memory = {memory.const_data_ptr<T>(), memory.stride(1)};
  in.keys_batch = keys.stride(0), in.memory_batch = memory.stride(0);
  in.v = is_additive() ? v.const_data_ptr<T>() : nullptr;
  in.memory_lengths = memory_lengths.defined() ? memory_lengths.const_data_ptr<int64_t>() : nullptr;
  return in;
}

template std::vector<DecoderLayer<float>> DecoderBatch::layers() const;
template std::vector<DecoderLayer<double>> DecoderBatch::layers() const;
template DecoderInputs<float> DecoderBatch::inputs(const std::vector<DecoderLayer<float>>&) const;
template DecoderInputs<double> DecoderBatch::inputs(const std::vector<DecoderLayer<double>>&) const;

}  // namespace seq2seq_ext
