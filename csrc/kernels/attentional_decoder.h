// The attentional decoder with input feeding (Luong, Pham and Manning 2015, section 3) under
// teacher forcing, over a whole ragged batch of targets. A step, for each row still running:
//   h_0 = cell(input_t + W_fed vector_{t-1}, ...), h_l = cell(mask_l * h_{l-1}, ...)
//   context = attention(query, memory)            query = W_q h_top (additive) or h_top (dot)
//   vector  = tanh(W_c [context; h_top])           output = vector_mask * vector
// output is what the next step is fed. What a step does not need of the one before, the
// projection of all inputs, is the caller's, as are the weights' gradients after backward: a few
// large products.
//
// Dims: B rows, T steps, S source, H hidden, A attention, M memory, L layers, G gates; N = sum
// of lengths. A step's work is cut twice: products by columns, everything between them by
// rows; the team meets in between, about three times a layer.
#pragma once

#include <cstdint>

#include "attention.h"
#include "gemm.h"
#include "recurrent.h"

namespace seq2seq_ext {

// The equations of a cell on whole rows. Gates that sum their two products come first (merged);
// GRU's last keeps them apart (split), and its second stands after the gates.
template <typename T>
struct DecoderCellGradient {
  int64_t hidden;
  const T* saved;   // [saved, H] of forward
  const T* h_prev;  // [H]
  const T* c_prev;  // [H] or null
  T* grad_h;        // [H] in: of h; out: of h_prev, the part that does not pass the gates
  T* grad_c;        // [H] in: of c, out: of c_prev; null without a cell state
  T* grad_gates;    // [G, H] out: of the products of x, and of h where gates are merged
  T* grad_split;    // [G - merged, H] out: of the split gates' products of h
};

template <typename T>
struct DecoderCell {
  int64_t gates, merged;
  int64_t saved;  // values a unit saves, the cell state last
  bool has_cell;
  // saved [saved, H]: the gates' sums on entry. h may not alias h_prev.
  void (*forward)(int64_t hidden, T* saved, const T* h_prev, const T* c_prev, T* h);
  void (*backward)(const DecoderCellGradient<T>&);
};

template <typename T>
struct AttentionalDecoderKernels {
  DecoderCell<T> lstm, gru, rnn_tanh, rnn_relu;
  // to = mask * from; mask may be null.
  void (*apply_mask)(int64_t n, const T* from, const T* mask, T* to);
  // to += mask * from; mask may be null.
  void (*add_masked)(int64_t n, const T* from, const T* mask, T* to);
  // vector = tanh(vector), output = mask * vector; mask may be null.
  void (*finish_vector)(int64_t n, T* vector, const T* mask, T* output);
  // grad: of the output on entry, of tanh's argument on return.
  void (*vector_gradient)(int64_t n, const T* vector, const T* mask, T* grad);
};

struct DecoderSizes {
  int64_t steps, source;              // T, S of the padded batch
  int64_t hidden, attention, memory;  // H, A, M; the last two 0 without attention
  int64_t query;                      // A where the query is projected, else 0
  int64_t layers;
};

// A row of what forward saves, and where each part of it begins.
struct DecoderRow {
  int64_t layer, state, query, context, vector, size;

  DecoderRow(const DecoderSizes& s, int64_t saved) {
    state = saved * s.hidden;  // h, after what the cell saves
    layer = state + s.hidden;  // from one layer to the next
    query = s.layers * layer;
    context = query + s.query;
    vector = context + s.memory;  // before its mask
    size = vector + s.hidden;
  }
};

// A packed weight. columns 0: there is none.
template <typename T>
struct DecoderProduct {
  int64_t depth = 0, columns = 0;
  const void* panels = nullptr;
  const T* bias = nullptr;  // [columns] or null
};

template <typename T>
struct DecoderLayer {
  DecoderProduct<T> input;   // of the last output (layer 0, no bias) or the layer below: [G*H]
  DecoderProduct<T> merged;  // of h_prev: [merged*H], no bias
  DecoderProduct<T> split;   // of h_prev: [(G - merged)*H]
  const T* mask;             // [B, T, H] of h on its way up, or null
  const T* h_0;              // [B, H]
  const T* c_0;              // [B, H] or null
};

// What both passes read. Batches of rows are contiguous where no stride is given.
template <typename T>
struct DecoderInputs {
  RaggedBatch ragged;
  DecoderSizes sizes;
  CellKind cell;
  WeightType weight_type;
  const DecoderLayer<T>* layers;     // [L]; backward has no products there
  const T* vector_0;                 // [B, H]
  const T* vector_mask;              // [B, T, H] or null
  Rows<const T> keys;                // [B, S, A]; stride: from one source position to the next
  Rows<const T> memory;              // [B, S, M]
  int64_t keys_batch, memory_batch;  // from one sentence to the next
  const T* v;                        // [A]; additive only, else null
  T scale;                           // of the scores
  const int64_t* memory_lengths;     // [B] or null for all S
};

template <typename T>
struct AttentionalDecoderForward {
  DecoderInputs<T> in;
  DecoderProduct<T> query;    // of h_top; none for dot
  DecoderProduct<T> context;  // the halves of W_c
  DecoderProduct<T> state;
  T* saved;    // [B, T, DecoderRow]; in: the projected inputs, in place of layer 0's gates
  T* output;   // [B, T, H]; rows past the end are not touched
  T* weights;  // [B, T, S] or null without attention; the same
  void* workspace;
};

template <typename T>
struct AttentionalDecoderBackward {
  DecoderInputs<T> in;
  // By layer, weights as they are ([out, in]) on the way back:
  const DecoderProduct<T>* input;   // grad_gates -> of the layer below's h, or of the last output
  const DecoderProduct<T>* merged;  // grad_gates -> grad_h_prev
  const DecoderProduct<T>* split;
  DecoderProduct<T> query, context, state;
  const T* saved;         // of forward
  const T* weights;       // of forward
  const T* grad_output;   // [B, T, H]
  const T* grad_weights;  // [B, T, S] or null for zero
  // Out, by packed row (s, b), N of them:
  T* const* grad_gates;  // [L] -> [N, G*H]
  T* const* grad_split;  // [L] -> [N, (G - merged)*H]
  T* grad_vector;        // [N, H] of tanh's argument
  T* grad_query;         // [N, A] of the projected query; null for dot
  // Out, [B, T, ...], defined for running rows:
  T* grad_context;  // [B, T, M]
  T* grad_scores;   // [B, T, S] before scale
  // Running gradients, in: zero, out: of the initial states
  T* const* grad_h;  // [L] -> [B, H]
  T* const* grad_c;  // [L] -> [B, H] or null
  T* grad_fed;       // [B, H]
  void* workspace;
};

// Bytes. team_size: the most members a pass will have.
template <typename T>
int64_t decoder_workspace(const DecoderInputs<T>&, int team_size);

// Every member of the team calls with the same arguments and its own place. What a pass writes
// means nothing if the team was interrupted.
template <typename T>
void attentional_decoder_forward(const AttentionalDecoderForward<T>&, const Team&);
template <typename T>
void attentional_decoder_backward(const AttentionalDecoderBackward<T>&, const Team&);

}  // namespace seq2seq_ext
