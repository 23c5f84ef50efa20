// The attentional decoder (Luong et al. 2015) in inference: one step for N rows, and the search
// that takes such steps. Float activations; the weights are packed in any weight type.
//
//   x = [embedding(token); vector of the step before]      with input feeding, else no vector
//   s = layers(x)
//   vector = tanh(W_c [context; s])                        context: attention of s, or absent
//   logits = W_o vector + b_o, or W_o (P vector) + b_o     P where the model has a projection
//
// Dims: B sources, N rows (beams), each of one source, those of a source next to each other;
// S source, V vocabulary, E embedding, H hidden, L layers, M memory, A attention.
#pragma once

#include <cstdint>
#include <vector>

#include "buffer.h"
#include "isa.h"
#include "team.h"

namespace seq2seq_ext {

// Borrowed, as everything below.
struct PackedLinear {
  int64_t inputs = 0, outputs = 0;
  const void* panels = nullptr;  // what the GEMM's pack wrote; null where there is no layer
  const float* bias = nullptr;   // [outputs] or null
};

struct PackedLayer {
  RecurrentSizes sizes;
  const void* packed;  // what the cell's pack_forward wrote
};

enum class AttentionKind { kNone, kAdditive, kDot };

struct DecoderModel {
  Kernels<float> kernels;  // those that the weights are packed for
  WeightType weight_type;
  CellKind cell;
  AttentionKind attention;
  bool input_feeding;
  int64_t vocabulary, embedding_size, hidden, memory, attention_size;  // V, E, H, M, A
  const float* embedding;                                              // [V, E]
  std::vector<PackedLayer> layers;
  PackedLinear query;  // additive only
  const float* v;      // [A]; additive only
  float scale;         // of the scores
  PackedLinear combine, projection, output;

  const RecurrentKernels<float>& cell_kernels() const { return kernels.cell(cell, weight_type); }
  const GemmKernels<float>& gemm() const { return kernels.gemm[weight_type]; }
  bool has_cell_state() const { return cell_kernels().has_cell; }

  // The recurrent state of a row: h of every layer, then c of every layer if the cell has one,
  // then the vector if it is fed. That many parts of H values.
  int64_t state_parts() const {
    const int64_t layers_count = layers.size();
    return layers_count * (has_cell_state() ? 2 : 1) + (input_feeding ? 1 : 0);
  }

  // Those that meet every row of a step.
  int64_t weights() const {
    int64_t total = output.inputs * output.outputs + combine.inputs * combine.outputs;
    for (const PackedLayer& layer : layers)
      total += cell_kernels().gates * layer.sizes.hidden * (layer.sizes.input + layer.sizes.output);
    return total;
  }
};

// Encoded sources.
struct DecoderSources {
  int64_t count, length;   // B, S
  const int64_t* lengths;  // [B]
  const float* memory;     // [B, S, M]
  const float* keys;       // [B, S, A]; null without attention
};

// Rows [begin, end) of one source.
struct SourceRows {
  int64_t source, begin, end;
};

struct DecoderStep {
  const DecoderSources* sources;
  int64_t rows;                           // N
  const int64_t* tokens;                  // [N]
  const int64_t* parents;                 // [N] rows of `before`
  const std::vector<SourceRows>* groups;  // all N rows, in order
  const float* before;                    // [parts, rows_before, H]
  int64_t rows_before;
  float* after;  // [parts, rows_after, H], the first N rows written; may not overlap `before`
  int64_t rows_after;
  float* weights;  // [N, S] of the attention; null without attention

  // One of the two, the other null.
  float* logits;     // [N, V]
  float* log_probs;  // [N, k] of the best tokens, best first
  int64_t* best;     // [N, k] these
  int64_t k;
};

// What a team needs for steps of up to `rows` rows. Grows, never shrinks.
class DecoderWorkspace {
 public:
  // Not to be called while the team is at work.
  void reserve(const DecoderModel& model, int64_t rows, int64_t source_length, int64_t k,
               int team_size);

 private:
  friend class StepPass;

  // What a member has for itself.
  struct Member {
    Buffer<float> input, attention, logits;
    Buffer<char> recurrent, encoded;
    Buffer<const void*> a;
    Buffer<float*> c;
  };
  std::vector<Member> members_;
  // Of all rows.
  Buffer<float> query_, combined_, vectors_, projected_;
  Buffer<char> recurrent_;
  std::vector<int64_t> row_numbers_, ones_;
  Buffer<BlockSum> sums_;
  Buffer<Token<float>> tokens_;
  Buffer<BestTokens<float>> lists_;
};

// Every member of the team calls with the same arguments and its own place. Afterwards all
// results are there for every member.
void decoder_step(const DecoderModel&, const DecoderStep&, DecoderWorkspace&, const Team&);

}  // namespace seq2seq_ext
