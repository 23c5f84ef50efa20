// The twin of ../attention.h for a whole batch on a GPU. Every result is one chain of sums in an
// order fixed by the sizes of its own sentence.
#pragma once

#include "../attention.h"
#include "types.h"

namespace seq2seq_ext::cuda {

template <typename T>
struct AttentionBatch {
  int64_t batch;              // B
  AttentionSizes sizes;       // length unused
  const int64_t* lengths;     // [B], clamped to [0, S]; null: all S
  BatchRows<const T> query;   // [B, T, A]
  BatchRows<const T> keys;    // [B, S, A]
  const T* v;                 // [A]; additive only, else null
  BatchRows<const T> memory;  // [B, S, M]
  double scale;               // of the scores; 1 for additive
};

template <typename T>
struct AttentionOutputs {
  T* context;      // [B, T, M]
  T* weights;      // [B, T, S]
  Acc<T>* scores;  // [B, T, S] scratch; the weights themselves where T is Acc<T>
};

template <typename T>
struct AttentionGradients {
  const Acc<T>* weights;            // [B, T, S] of forward
  BatchRows<const T> grad_context;  // [B, T, M]
  BatchRows<const T> grad_weights;  // [B, T, S], or null for zero
  Acc<T>* grad_scores;              // [B, T, S] scratch, of the scores before scale
  T* grad_query;                    // [B, T, A]
  T* grad_keys;                     // [B, S, A]
  Acc<T>* grad_v;                   // [B, ceil(T / kAttentionRows), A] parts; or null
  T* grad_memory;                   // [B, S, M]
};

// Queries, or keys, that a block takes together.
constexpr int kAttentionRows = 8;

template <typename T>
void attention_forward(const AttentionBatch<T>&, const AttentionOutputs<T>&, Stream);
// Backward has two halves: grad_scores, grad_query and grad_v; then grad_keys and grad_memory. A
// caller whose queries come one at a time takes the second for all of them at once.
template <typename T>
void attention_query_gradient(const AttentionBatch<T>&, const AttentionGradients<T>&, Stream);
template <typename T>
void attention_memory_gradient(const AttentionBatch<T>&, const AttentionGradients<T>&, Stream);

}  // namespace seq2seq_ext::cuda
