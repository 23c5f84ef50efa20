// The checked arguments of the attentional_decoder op, as the CPU's kernel takes them.
#pragma once

#include "attentional_decoder_inputs.h"
#include "interrupt.h"
#include "products.h"
#include "recurrent_inputs.h"

namespace seq2seq_ext {

// The arguments, and the batch by falling length.
class DecoderBatch : public DecoderTensors {
 public:
  DecoderBatch(const DecoderArguments& args, std::optional<at::ScalarType> dtype);

  template <typename T>
  DecoderInputs<T> inputs(const std::vector<DecoderLayer<T>>& layers) const;
  // Layers without products.
  template <typename T>
  std::vector<DecoderLayer<T>> layers() const;

  template <typename T>
  const GemmKernels<T>& gemm() const {
    return kernels<T>().gemm[weight_type];
  }

  // Members worth having: each needs enough work a step to pay for the barriers.
  int team_size() const;

  int64_t flops_per_step() const;

  WeightType weight_type;  // that both sides of a product are rounded to
  std::optional<Ragged> ragged;
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

// Runs a pass with the team that the batch is worth; args.workspace is given here. Throws where the
// caller stops it.
template <typename T, class Args>
void run_decoder(const DecoderBatch& d, Args& args, void (*pass)(const Args&, const Team&)) {
  OpInterrupt interrupt(d.flops_per_step() * d.ragged->view().steps);
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
      [&](int member) { pass(args, {member, size, barrier.get(), interrupt.get()}); });
  interrupt.check();
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
