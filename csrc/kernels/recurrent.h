// One direction of one recurrent layer over a ragged batch: the contract that the
// LSTM, GRU and RNN kernels share. Equations of each cell: lstm_cell.h, gru_cell.h, rnn_cell.h.
//
// Dims: B rows, T steps, I input, H hidden, P output (H, or proj_size), G gates,
// N = sum of lengths. The batch is visited longest row first. Step s touches the first
// active[s] rows only; row b reads time s, or lengths[b] - 1 - s in reverse.
#pragma once

#include <cstdint>

#include "team.h"
#include "weights.h"

namespace seq2seq_ext {

enum class CellKind { kLstm, kGru, kRnnTanh, kRnnRelu };

// The rows of a batch in order of falling length. Borrowed arrays, read only.
struct RaggedBatch {
  int64_t batch;           // B
  int64_t steps;           // longest length
  const int64_t* rows;     // [B] place in the caller's batch
  const int64_t* lengths;  // [B] falling
  const int64_t* active;   // [steps] rows still running at step s; falling
  const int64_t* offsets;  // [steps + 1] sum of active before step s: packed row of (s, b)
                           // is offsets[s] + b
};

// Rows of features at (time, batch); features are contiguous.
template <typename T>
struct Sequence {
  T* data;
  int64_t time_stride, batch_stride;
};

struct RecurrentSizes {
  int64_t input, hidden, output;  // I, H, P
  bool projected;                 // P comes from weight_hr
};

// torch.nn's parameters of one direction. Strides: contiguous.
template <typename T>
struct RecurrentWeights {
  const T* weight_ih;  // [G*H, I]
  const T* weight_hh;  // [G*H, P]
  const T* bias_ih;    // [G*H] or null
  const T* bias_hh;    // [G*H] or null
  const T* weight_hr;  // [P, H] or null
};

template <typename T>
struct RecurrentForward {
  RaggedBatch ragged;
  RecurrentSizes sizes;
  bool reverse;
  const void* packed;       // what pack_forward wrote
  Sequence<const T> input;  // [T, B, I]
  Sequence<T> output;       // [T, B, P]; also the hidden state of earlier steps. Rows past
                            // the end are not touched
  const T* h_0;             // [B, P]
  T* h_n;                   // [B, P]; may not alias h_0; may be the output where T = 1
  const T* c_0;             // [B, H]; LSTM only, else null
  T* c_n;                   // [B, H]; the running cell state; may not alias c_0
  T* saved;                 // [N, saved] for backward, or null in inference
  void* workspace;          // shared by the team: forward_workspace() bytes
  // [B] the rows of h_0 and c_0 that rows go on from; null: each from its own.
  const int64_t* parents = nullptr;
};

template <typename T>
struct RecurrentBackward {
  RaggedBatch ragged;
  RecurrentSizes sizes;
  bool reverse;
  const void* packed;             // what pack_backward wrote
  Sequence<const T> output;       // [T, B, P] of forward
  Sequence<const T> grad_output;  // [T, B, P]
  const T* h_0;                   // [B, P]
  const T* c_0;                   // [B, H] or null
  const T* saved;                 // [N, saved] of forward
  T* grad_h;                      // [B, P]; in: grad of h_n, out: grad of h_0
  T* grad_c;                      // [B, H]; the same for c; null if no cell state
  T* grad_gates_x;                // [N, G*H] out: grad of x W_ih^T + b_ih
  T* grad_gates_h;                // [N, G*H] out: grad of h W_hh^T + b_hh; for LSTM and RNN the
                                  // same, and the same pointer
  T* projected;                   // [N, H] out: the state before weight_hr; null without it
  T* grad_projected;              // [N, P] out: grad of the projected state; null without it
  void* workspace;                // shared by the team: backward_workspace() bytes
};

// Those of one weight type: both passes read packed weights of that type (gemm.h), the biases among
// them as they are; the rows of inputs, states and gradients that meet them are encoded inside.
template <typename T>
struct RecurrentKernels {
  int64_t gates;     // G
  int64_t saved;     // values a unit saves for backward, cell state included
  bool has_cell;     // c_0, c_n
  bool split_gates;  // grad_gates_h differs from grad_gates_x
  // Bytes, a multiple of 64.
  int64_t (*packed_forward_size)(const RecurrentSizes&);
  void (*pack_forward)(const RecurrentSizes&, const RecurrentWeights<T>&, void* packed);
  int64_t (*packed_backward_size)(const RecurrentSizes&);
  void (*pack_backward)(const RecurrentSizes&, const RecurrentWeights<T>&, void* packed);
  int64_t (*forward_workspace)(const RecurrentSizes&, int64_t batch, int team_size);
  int64_t (*backward_workspace)(const RecurrentSizes&, int team_size);
  // Every member of the team calls with the same arguments and its own place. What a pass writes
  // means nothing if the team was interrupted.
  void (*forward)(const RecurrentForward<T>&, const Team&);
  void (*backward)(const RecurrentBackward<T>&, const Team&);
};

}  // namespace seq2seq_ext
