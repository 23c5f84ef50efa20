// The twin of ../recurrent.h on a GPU: both directions of a layer at once. Dims as there; D
// directions, R rows that N packed rows fit into (R = N where the caller knows the lengths).
// RaggedBatch's arrays lie on the device here; steps may be more than the longest length.
#pragma once

#include "../recurrent.h"
#include "gemm.h"

namespace seq2seq_ext::cuda {

struct CellTraits {
  int64_t gates, saved;
  bool has_cell, split_gates, reads_state;
};
CellTraits cell_traits(CellKind);

// The order of rows, made on the device, so that nobody waits for lengths that are there.
struct RowOrder {
  int64_t batch, steps;          // B, T
  const int64_t* lengths;        // [B], clamped to [0, T]; null: all T
  int64_t* rows;                 // [B] out, as RaggedBatch's, as are the next three
  int64_t* sorted;               // [B]
  int64_t* active;               // [T]
  int64_t* offsets;              // [T + 1]
  int64_t directions, capacity;  // D, R
  int64_t* places;  // [D, R] out: time * B + row of a packed row, kNoRow behind the last
};
void order_rows(const RowOrder&, Stream);

// What pack_weights makes of one direction: places in bytes. weight_ih is read as it is.
struct PackedWeights {
  int64_t weight_hh;       // panels of 8 units, gate by gate, a slab of depth at a time
  int64_t weight_hr;       // panels of 8 outputs
  int64_t bias_x, bias_h;  // [G*H] of Acc<T>; summed in bias_x where the gate is not split
  int64_t size;
};
// With the sizes of T and of Acc<T>.
PackedWeights packed_weights(CellKind, const RecurrentSizes&, int64_t value, int64_t sum);
template <typename T>
void pack_weights(CellKind, const RecurrentSizes&, const RecurrentWeights<T>&, void* packed,
                  Stream);

// What forward and backward are told alike.
template <typename T>
struct RecurrentRun {
  CellKind cell;
  RaggedBatch ragged;
  RecurrentSizes sizes;
  int64_t directions, capacity;
  bool tf32;           // float may be rounded to TF32
  const char* packed;  // [D] of what pack_weights made, or pack_backward_weights
  const T* h_0;        // [D, B, P]
  unsigned* counters;  // [D * B] zeros
  int64_t saved_rows;
};

template <typename T>
struct RecurrentForward : RecurrentRun<T> {
  const Acc<T>* gates_x;  // [D, R, G*H] input W_ih^T + bias_x
  Sequence<T> output;     // [T, B, D*P]; as in ../recurrent.h
  T* h_n;                 // [D, B, P] in: h_0; may not alias it
  Acc<T>* c;              // [D, B, H] in: c_0, out: c_n; null without a cell state
  T* saved;               // [D, saved_rows, saved * H] or null
  T* unprojected;         // [D, B, H] scratch; null without a projection
};
template <typename T>
void recurrent_forward(const RecurrentForward<T>&, Stream);

// One step of one direction without lengths, as decoding takes them. Weights are read as they are,
// once for all rows up to 16 (32 on tensor cores). A row's bits depend on that row alone, but are
// not forward's: sums of input and state are one.
template <typename T>
struct RecurrentStep {
  CellKind cell;
  RecurrentSizes sizes;
  int64_t batch;                // B
  bool tf32;                    // float may be rounded to TF32
  RecurrentWeights<T> weights;  // weight_hr is not read: where there is one, h_n is to be projected
  const T* input;               // [B, I]
  int64_t input_stride;         // from one row to the next, as all strides
  const T* h_0;                 // [B, P]
  const T* c_0;                 // [B, H]; null without a cell state
  T* h_n;                       // [B, H] out; may not alias h_0
  T* output;                    // [B, H] out, the same values; or null
  int64_t output_stride;
  T* c_n;    // [B, H] out; may alias c_0; null without a cell state
  T* saved;  // [B, saved * H] out, as forward's; or null
};
template <typename T>
void recurrent_step(const RecurrentStep<T>&, Stream);

// What pack_backward_weights makes of one direction: places in bytes.
struct PackedBackwardWeights {
  int64_t weight_hh;  // panels of 8 columns
  int64_t weight_hr;  // the same
  int64_t size;
};
// With the size of T.
PackedBackwardWeights packed_backward_weights(CellKind, const RecurrentSizes&, int64_t value);
template <typename T>
void pack_backward_weights(CellKind, const RecurrentSizes&, const RecurrentWeights<T>&,
                           void* packed, Stream);

// Rows behind the last packed one are not touched.
template <typename T>
struct RecurrentBackward : RecurrentRun<T> {
  Sequence<const T> output;       // [T, B, D*P] of forward
  Sequence<const T> grad_output;  // [T, B, D*P]
  const T* c_0;                   // [D, B, H] or null
  const T* saved;                 // [D, saved_rows, saved * H] of forward
  Acc<T>* grad_h;                 // [D, B, P] in: grad of h_n, out: grad of h_0
  Acc<T>* grad_c;                 // [D, B, H] the same for c; null without a cell state
  T* grad_gates_x;                // [D, R, G*H] out: as in ../recurrent.h, as is all that follows
  T* grad_gates_h;                // [D, R, G*H] out: grad_gates_x itself unless a gate is split
  T* projected;                   // [D, R, H] out; null without a projection
  T* grad_projected;              // [D, R, P] out; null without a projection
};
template <typename T>
void recurrent_backward(const RecurrentBackward<T>&, Stream);

// The rows that one direction reads, into their packed order: an operand of weight gradients.
template <typename T>
struct PackRows {
  int64_t batch, capacity, columns;  // B, R
  const int64_t* places;             // [R] of this direction
  const int64_t* active;             // [T]
  Sequence<const T> from;            // [T, B, columns]
  int64_t time_shift;                // of the row that is read, from the packed row's own time
  const T* first;                    // [B, columns] read at step 0 instead; null: as at any other
  T* to;                             // [R, columns] out; zeros behind the last packed row
};
template <typename T>
void pack_rows(const PackRows<T>&, Stream);

// Packed rows back to their places, summed over directions, zeros past every length.
template <typename T>
struct UnpackRows {
  RaggedBatch ragged;
  int64_t directions, capacity, columns;
  const Acc<T>* from;  // [D, R, columns]
  T* to;               // [T, B, columns] out
};
template <typename T>
void unpack_rows(const UnpackRows<T>&, Stream);

}  // namespace seq2seq_ext::cuda
