// Masked attention of some queries over the memory of one sentence: score, softmax over the
// real keys, context. Equations of the scores: cpu/additive_attention.h (Bahdanau),
// cpu/dot_attention.h (Luong).
//
// Dims: T queries (beams or target steps), S source, A attention, M memory. Only the first
// `length` of the S keys and memory rows are read; the weights and gradients of the others are
// zero. Every result is one chain of sums in an order fixed by the sizes of its own sentence,
// so any cut of the work gives the same bits.
#pragma once

#include <cstdint>

namespace seq2seq_ext {

struct AttentionSizes {
  int64_t queries, length, source, attention, memory;  // T, real keys, S, A, M
};

// Rows of contiguous features.
template <typename T>
struct Rows {
  T* data;
  int64_t stride;  // from one row to the next
};

template <typename T>
struct AttentionInputs {
  AttentionSizes sizes;
  Rows<const T> query;   // [T, A]
  Rows<const T> keys;    // [S, A]
  const T* v;            // [A]; additive only, else null
  Rows<const T> memory;  // [S, M]
  T scale;               // of the scores; 1 for additive
};

template <typename T>
struct AttentionForward {
  AttentionInputs<T> in;
  Rows<T> context;  // [T, M]
  T* weights;       // [T, S]
  T* workspace;     // forward_workspace() values
};

// Backward has stages, each of which may be cut: grad_scores by queries, then grad_memory and
// grad_inputs by columns.
template <typename T>
struct AttentionBackward {
  AttentionInputs<T> in;
  const T* weights;            // [T, S] of forward
  Rows<const T> grad_context;  // [T, M]
  Rows<const T> grad_weights;  // [T, S], or null for zero
  T* grad_scores;              // [T, S] written by grad_scores, read by grad_inputs; of the
                               // scores before scale
  T* grad_query;               // [T, A]
  T* grad_keys;                // [S, A]
  T* grad_v;                   // [A] this sentence's part; additive only, else null
  T* grad_memory;              // [S, M]
  T* workspace;                // grad_inputs: backward_workspace() values
};

template <typename T>
struct ScoreKernels {
  int64_t (*forward_workspace)(const AttentionSizes&);
  int64_t (*backward_workspace)(const AttentionSizes&);
  void (*forward)(const AttentionForward<T>&);
  // grad_query alone, for a caller whose queries come one at a time.
  void (*grad_query)(const AttentionBackward<T>&);
  // Columns [begin, end) of grad_query, grad_keys and grad_v.
  void (*grad_inputs)(const AttentionBackward<T>&, int64_t begin, int64_t end);
};

template <typename T>
struct AttentionKernels {
  int64_t column_block;  // columns may be cut at multiples of it
  ScoreKernels<T> additive;
  ScoreKernels<T> dot;
  void (*grad_scores)(const AttentionBackward<T>&);
  // Columns [begin, end).
  void (*grad_memory)(const AttentionBackward<T>&, int64_t begin, int64_t end);
};

}  // namespace seq2seq_ext
