// The checked arguments of the attentional_decoder op, as its kernel takes them.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "kernels/attentional_decoder.h"
#include "products.h"
#include "recurrent_inputs.h"

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
  std::optional<at::ScalarType> dtype;    // that both sides of a product are rounded to
};

// The arguments, checked and dense, and the batch by falling length.
class DecoderBatch {
 public:
  explicit DecoderBatch(const DecoderArguments& args);

  template <typename T>
  DecoderInputs<T> inputs(const std::vector<DecoderLayer<T>>& layers) const;
  // Layers without products.
  template <typename T>
  std::vector<DecoderLayer<T>> layers() const;

  template <typename T>
  const GemmKernels<T>& gemm() const {
    return kernels<T>().gemm[weight_type];
  }

  bool attends() const { return memory.defined(); }
  bool is_additive() const { return v.defined(); }
  const at::Tensor& weight_ih(int64_t l) const { return weights[4 * l]; }
  const at::Tensor& weight_hh(int64_t l) const { return weights[4 * l + 1]; }
  const at::Tensor& bias_ih(int64_t l) const { return weights[4 * l + 2]; }
  const at::Tensor& bias_hh(int64_t l) const { return weights[4 * l + 3]; }
  const DecoderRow& row() const { return *row_; }
  at::Tensor empty(at::IntArrayRef shape) const { return at::empty(shape, input.options()); }
  void check(const char* name, const at::Tensor& t, at::IntArrayRef shape) const;

  // Members worth having: each needs enough work a step to pay for the barriers.
  int team_size() const;

  const char* op;
  at::Tensor input, vector_0, h_0, c_0, combine_weight, memory, keys, query_weight, v;
  at::Tensor layer_masks, vector_mask;
  std::vector<at::Tensor> weights;
  CellKind cell;
  WeightType weight_type;
  double scale;
  int64_t batch, steps, embedding, gates, merged, saved;
  DecoderSizes sizes;
  std::optional<Ragged> ragged;

 private:
  void check_cell(const DecoderArguments& args);
  void check_layers(const DecoderArguments& args);
  void check_attention(const DecoderArguments& args);
  void check_masks(const DecoderArguments& args);

  at::Tensor memory_lengths_;
  std::optional<DecoderRow> row_;
};

// Pointers to row(i, t) for every step that runs, in packed order; i is the row of the batch.
template <typename T, class Row>
std::vector<T*> packed_rows(const RaggedBatch& r, const Row& row) {
  std::vector<T*> pointers;
  pointers.reserve(r.offsets[r.steps]);
  for (int64_t s = 0; s < r.steps; ++s)
    for (int64_t b = 0; b < r.active[s]; ++b) pointers.push_back(row(r.rows[b], s));
  return pointers;
}

// Runs a pass with the team that the batch is worth; args.workspace is given here.
template <typename T, class Args>
void run_decoder(const DecoderBatch& d, Args& args, void (*pass)(const Args&, const Team&)) {
  at::Tensor workspace;
  std::unique_ptr<Barrier> barrier;
  int size = 1;
  run_team(
      d.team_size(),
      [&](int threads) {
        size = threads;
        barrier = std::make_unique<Barrier>(threads);
        workspace = at::empty({decoder_workspace<T>(args.in, threads)}, at::kByte);
        args.workspace = workspace.data_ptr();
      },
      [&](int member) { pass(args, {member, size, barrier.get()}); });
}

struct DecoderOutputs {
  at::Tensor output;   // [B, T, H], zero past the end
  at::Tensor weights;  // [B, T, S], the same; S is 0 without attention
  at::Tensor saved;    // [B, T, DecoderRow]; [0, T, ...] if not asked for
};

struct DecoderGradients {
  at::Tensor input, vector_0, h_0, c_0;  // c_0 [0, B, H] without a cell state
  at::Tensor weight_ih_0;                // [G*H, E + H]
  at::Tensor weight_ih, weight_hh;       // [L - 1, G*H, H], [L, G*H, H]
  at::Tensor bias_ih, bias_hh;           // [L, G*H]
  at::Tensor combine_weight;             // and below: empty where not given
  at::Tensor memory, keys, query_weight, v;
};

DecoderGradients decoder_backward(const DecoderBatch&, const at::Tensor& grad_output,
                                  const std::optional<at::Tensor>& grad_weights,
                                  const at::Tensor& weights, const at::Tensor& saved);

}  // namespace seq2seq_ext
