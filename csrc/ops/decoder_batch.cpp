#include <algorithm>

#include "attentional_decoder.h"
#include "check.h"
#include "packed.h"

namespace seq2seq_ext {

namespace {

struct CellName {
  const char* name;
  CellKind kind;
};
constexpr CellName kCells[] = {{"lstm", CellKind::kLstm},
                               {"gru", CellKind::kGru},
                               {"rnn_tanh", CellKind::kRnnTanh},
                               {"rnn_relu", CellKind::kRnnRelu}};

template <typename T>
const DecoderCell<T>& cell_of(CellKind kind) {
  const AttentionalDecoderKernels<T>& k = kernels<T>().attentional_decoder;
  const DecoderCell<T>* const cells[] = {&k.lstm, &k.gru, &k.rnn_tanh, &k.rnn_relu};
  return *cells[static_cast<int>(kind)];
}

}  // namespace

DecoderBatch::DecoderBatch(const DecoderArguments& args) : op(args.op), scale(args.scale) {
  check_floating(op, "input", args.input);
  check_dim(op, "input", args.input, 3, "[B, T, E]");
  weight_type = product_type(op, args.input, args.dtype);
  input = dense_rows(args.input);
  batch = input.size(0), steps = input.size(1), embedding = input.size(2);
  check_dim(op, "vector_0", args.vector_0, 2, "[B, H]");
  sizes = {steps, 0, args.vector_0.size(1), 0, 0, 0, 0};
  check("vector_0", args.vector_0, {batch, sizes.hidden});
  vector_0 = args.vector_0.contiguous();
  check_cell(args);
  check_layers(args);
  check_attention(args);
  check_masks(args);
  std::optional<at::Tensor> lengths;
  if (args.lengths) lengths = check_lengths(op, "lengths", *args.lengths, batch, steps);
  ragged.emplace(lengths, batch, steps);
  row_.emplace(sizes, saved);
}

void DecoderBatch::check(const char* name, const at::Tensor& t, at::IntArrayRef shape) const {
  check_like(op, name, t, input, "input");
  check_shape(op, name, t, shape);
}

void DecoderBatch::check_cell(const DecoderArguments& args) {
  const auto* found = std::find_if(std::begin(kCells), std::end(kCells),
                                   [&](const CellName& c) { return args.cell == c.name; });
  TORCH_CHECK_VALUE(found != std::end(kCells), op,
                    ": cell: expected lstm, gru, rnn_tanh or rnn_relu, got '", args.cell, "'");
  cell = found->kind;
  const DecoderCell<double>& k = cell_of<double>(cell);
  gates = k.gates, merged = k.merged, saved = k.saved;
  const int64_t wanted = k.has_cell ? 2 : 1;
  TORCH_CHECK_VALUE(static_cast<int64_t>(args.states.size()) == wanted, op, ": states: expected ",
                    wanted, " tensors for cell '", args.cell, "', got ", args.states.size());
}

void DecoderBatch::check_layers(const DecoderArguments& args) {
  const int64_t count = args.weights.size(), rows = gates * sizes.hidden;
  TORCH_CHECK_VALUE(count > 0 && count % 4 == 0, op, ": weights: expected 4 tensors a layer, got ",
                    count);
  sizes.layers = count / 4;
  for (int64_t l = 0; l < sizes.layers; ++l) {
    const int64_t features = l == 0 ? embedding + sizes.hidden : sizes.hidden;
    check("weights (weight_ih)", args.weights[4 * l], {rows, features});
    check("weights (weight_hh)", args.weights[4 * l + 1], {rows, sizes.hidden});
    check("weights (bias_ih)", args.weights[4 * l + 2], {rows});
    check("weights (bias_hh)", args.weights[4 * l + 3], {rows});
  }
  for (const at::Tensor& w : args.weights) weights.push_back(w.contiguous());
  for (const at::Tensor& state : args.states)
    check("states", state, {sizes.layers, batch, sizes.hidden});
  h_0 = args.states[0].contiguous();
  if (args.states.size() > 1) c_0 = args.states[1].contiguous();
}

void DecoderBatch::check_attention(const DecoderArguments& args) {
  TORCH_CHECK_VALUE(args.memory.has_value() == args.keys.has_value(), op,
                    ": keys: expected exactly where memory is, got ",
                    args.keys ? "keys alone" : "memory alone");
  TORCH_CHECK_VALUE(args.query_weight.has_value() == args.v.has_value(), op,
                    ": v: expected exactly where query_weight is, got ",
                    args.v ? "v alone" : "query_weight alone");
  TORCH_CHECK_VALUE(args.memory || !args.v, op, ": memory: expected with v, got None");
  if (args.memory) {
    check_dim(op, "memory", *args.memory, 3, "[B, S, M]");
    check_dim(op, "keys", *args.keys, 3, "[B, S, A]");
    sizes.source = args.memory->size(1), sizes.memory = args.memory->size(2);
    sizes.attention = args.v ? args.keys->size(2) : sizes.hidden;
    TORCH_CHECK_VALUE(sizes.memory > 0, op, ": memory: expected M >= 1, got shape ",
                      args.memory->sizes());
    check("memory", *args.memory, {batch, sizes.source, sizes.memory});
    check("keys", *args.keys, {batch, sizes.source, sizes.attention});
    memory = dense_rows(*args.memory), keys = dense_rows(*args.keys);
  }
  if (args.v) {
    check("query_weight", *args.query_weight, {sizes.attention, sizes.hidden});
    check("v", *args.v, {sizes.attention});
    sizes.query = sizes.attention;
    query_weight = args.query_weight->contiguous(), v = args.v->contiguous();
  }
  TORCH_CHECK_VALUE(args.memory || !args.memory_lengths, op,
                    ": memory_lengths: expected with memory, got them alone");
  if (args.memory_lengths)
    memory_lengths_ =
        check_lengths(op, "memory_lengths", *args.memory_lengths, batch, sizes.source);
  check("combine_weight", args.combine_weight, {sizes.hidden, sizes.memory + sizes.hidden});
  combine_weight = args.combine_weight.contiguous();
}

void DecoderBatch::check_masks(const DecoderArguments& args) {
  if (args.layer_masks) {
    check("layer_masks", *args.layer_masks, {sizes.layers - 1, batch, steps, sizes.hidden});
    layer_masks = args.layer_masks->contiguous();
  }
  if (args.vector_mask) {
    check("vector_mask", *args.vector_mask, {batch, steps, sizes.hidden});
    vector_mask = args.vector_mask->contiguous();
  }
}

int DecoderBatch::team_size() const {
  constexpr int64_t kFlopsPerMember = 2'000'000;
  const int64_t longest = std::max<int64_t>(ragged->view().steps, 1);
  const int64_t flops =
      2 * sizes.hidden *
      (2 * sizes.layers * gates * sizes.hidden + sizes.attention + sizes.memory + sizes.hidden) *
      ragged->total() / longest;
  return std::clamp<int64_t>(flops / kFlopsPerMember, 1, max_threads());
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
  in.memory_lengths =
      memory_lengths_.defined() ? memory_lengths_.const_data_ptr<int64_t>() : nullptr;
  return in;
}

template std::vector<DecoderLayer<float>> DecoderBatch::layers() const;
template std::vector<DecoderLayer<double>> DecoderBatch::layers() const;
template DecoderInputs<float> DecoderBatch::inputs(const std::vector<DecoderLayer<float>>&) const;
template DecoderInputs<double> DecoderBatch::inputs(const std::vector<DecoderLayer<double>>&) const;

}  // namespace seq2seq_ext
