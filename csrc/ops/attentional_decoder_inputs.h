// The checked arguments of the attentional_decoder op, on any device.
#pragma once

#include <ATen/ops/empty.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "check.h"
#include "huge_tensor.h"
#include "kernels/attentional_decoder.h"

namespace seq2seq_ext {

// Dims as in kernels/attentional_decoder.h; E embedding.
struct DecoderArguments {
  const char* op;
  at::Tensor input;                           // [B, T, E]
  std::optional<at::Tensor> lengths;          // int64 [B] or all T
  at::Tensor vector_0;                        // [B, H]
  at::TensorList states;                      // h_0 [L, B, H], and c_0 of an LSTM
  at::TensorList weights;                     // weight_ih, weight_hh, bias_ih, bias_hh a layer
  std::string cell;                           // lstm, gru, rnn_tanh or rnn_relu
  at::Tensor combine_weight;                  // [H, M + H]
  std::optional<at::Tensor> memory;           // [B, S, M]
  std::optional<at::Tensor> keys;             // [B, S, A]
  std::optional<at::Tensor> memory_lengths;   // int64 [B] or all S
  std::optional<at::Tensor> query_weight, v;  // [A, H] and [A]: additive attention
  double scale;
  std::optional<at::Tensor> layer_masks;  // [L - 1, B, T, H]
  std::optional<at::Tensor> vector_mask;  // [B, T, H]
};

// What the shapes of tensors follow from; as DecoderCell.
struct DecoderCellShape {
  int64_t gates, merged, saved;
  bool has_cell;
};

inline CellKind decoder_cell_kind(const char* op, const std::string& name) {
  constexpr const char* kNames[] = {"lstm", "gru", "rnn_tanh", "rnn_relu"};
  constexpr CellKind kKinds[] = {CellKind::kLstm, CellKind::kGru, CellKind::kRnnTanh,
                                 CellKind::kRnnRelu};
  const auto* const found = std::find(std::begin(kNames), std::end(kNames), name);
  TORCH_CHECK_VALUE(found != std::end(kNames), op,
                    ": cell: expected lstm, gru, rnn_tanh or rnn_relu, got '", name, "'");
  return kKinds[found - std::begin(kNames)];
}

// The arguments, checked; features contiguous.
class DecoderTensors {
 public:
  // shape_of(CellKind) tells a cell's shape; check_lengths(op, name, lengths, batch, limit) gives
  // lengths as the kernels read them.
  template <class ShapeOf, class CheckLengths>
  DecoderTensors(const DecoderArguments& args, const ShapeOf& shape_of,
                 const CheckLengths& check_lengths)
      : op(args.op), scale(args.scale) {
    check_floating(op, "input", args.input);
    check_dim(op, "input", args.input, 3, "[B, T, E]");
    input = dense_rows(args.input);
    batch = input.size(0), steps = input.size(1), embedding = input.size(2);
    check_dim(op, "vector_0", args.vector_0, 2, "[B, H]");
    sizes = {steps, 0, args.vector_0.size(1), 0, 0, 0, 0};
    check("vector_0", args.vector_0, {batch, sizes.hidden});
    vector_0 = args.vector_0.contiguous();
    cell = decoder_cell_kind(op, args.cell);
    check_cell(args, shape_of(cell));
    check_layers(args);
    check_attention(args);
    check_masks(args);
    if (args.memory_lengths)
      memory_lengths =
          check_lengths(op, "memory_lengths", *args.memory_lengths, batch, sizes.source);
    if (args.lengths) lengths = check_lengths(op, "lengths", *args.lengths, batch, steps);
    row_.emplace(sizes, saved);
  }

  bool attends() const { return memory.defined(); }
  bool is_additive() const { return v.defined(); }
  const at::Tensor& weight_ih(int64_t l) const { return weights[4 * l]; }
  const at::Tensor& weight_hh(int64_t l) const { return weights[4 * l + 1]; }
  const at::Tensor& bias_ih(int64_t l) const { return weights[4 * l + 2]; }
  const at::Tensor& bias_hh(int64_t l) const { return weights[4 * l + 3]; }
  const DecoderRow& row() const { return *row_; }
  at::Tensor empty(at::IntArrayRef shape) const { return huge_empty(shape, input.options()); }
  void check(const char* name, const at::Tensor& t, at::IntArrayRef shape) const {
    check_like(op, name, t, input, "input");
    check_shape(op, name, t, shape);
  }
  // What backward gets beside forward's arguments.
  void check_given(const at::Tensor& grad_output, const std::optional<at::Tensor>& grad_weights,
                   const at::Tensor& weights, const at::Tensor& saved) const {
    check("grad_output", grad_output, {batch, steps, sizes.hidden});
    check("alignment", weights, {batch, steps, sizes.source});
    check("saved", saved, {batch, steps, row().size});
    if (grad_weights) check("grad_alignment", *grad_weights, {batch, steps, sizes.source});
  }

  const char* op;
  at::Tensor input, vector_0, h_0, c_0, combine_weight, memory, keys, query_weight, v;
  at::Tensor layer_masks, vector_mask;
  at::Tensor lengths, memory_lengths;  // or undefined for all
  std::vector<at::Tensor> weights;
  CellKind cell;
  double scale;
  int64_t batch, steps, embedding, gates, merged, saved;
  DecoderSizes sizes;

 private:
  void check_cell(const DecoderArguments& args, const DecoderCellShape& shape) {
    gates = shape.gates, merged = shape.merged, saved = shape.saved;
    const int64_t wanted = shape.has_cell ? 2 : 1;
    TORCH_CHECK_VALUE(static_cast<int64_t>(args.states.size()) == wanted, op, ": states: expected ",
                      wanted, " tensors for cell '", args.cell, "', got ", args.states.size());
  }

  void check_layers(const DecoderArguments& args) {
    const int64_t count = args.weights.size(), rows = gates * sizes.hidden;
    TORCH_CHECK_VALUE(count > 0 && count % 4 == 0, op,
                      ": weights: expected 4 tensors a layer, got ", count);
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

  void check_attention(const DecoderArguments& args) {
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
    check("combine_weight", args.combine_weight, {sizes.hidden, sizes.memory + sizes.hidden});
    combine_weight = args.combine_weight.contiguous();
  }

  void check_masks(const DecoderArguments& args) {
    if (args.layer_masks) {
      check("layer_masks", *args.layer_masks, {sizes.layers - 1, batch, steps, sizes.hidden});
      layer_masks = args.layer_masks->contiguous();
    }
    if (args.vector_mask) {
      check("vector_mask", *args.vector_mask, {batch, steps, sizes.hidden});
      vector_mask = args.vector_mask->contiguous();
    }
  }

  std::optional<DecoderRow> row_;
};

}  // namespace seq2seq_ext
