// The twin of ../attentional_decoder.h on a GPU: what a step is made of, a launch each, in the
// order in which the caller asks for them. Attention is attention.h's; dims as there.
//
// A layer's step is one product: of [input; h_prev] with [W_ih | W_hh] of all gates. A gate that
// keeps its two products apart (GRU's last) stands there twice, the second time for h at the end,
// with zeros in place of the other half: G' = gates + split ones.
//
// Products take rows of T, everything else is of Acc<T>.
#pragma once

#include "../recurrent.h"
#include "types.h"

namespace seq2seq_ext::cuda {

// What the launches of a step share. Rows are known by their place in the caller's batch.
struct DecoderStep {
  int64_t batch, step;
  const int64_t* rows;    // [B] by falling length
  const int64_t* active;  // [T] how many of them run
  bool tf32;              // float may be rounded to TF32
};

// A row's features begin at data + row * stride.
template <typename T>
struct StepRows {
  T* data;
  int64_t stride;
};

// Rows [depth] times a weight's panels.
template <typename T>
struct StepInput {
  StepRows<const T> rows;
  int64_t depth;
  const T* panels;
};

// A weight [gates * units, depth], its element (r, k) at data[r * row_stride + k * depth_stride].
template <typename T>
struct StepWeight {
  const T* data;
  int64_t row_stride, depth_stride, gates, units, depth;
};
// Values of the panels of a weight.
template <typename T>
int64_t step_panels_size(int64_t gates, int64_t units, int64_t depth);
template <typename T>
void pack_step_panels(const StepWeight<T>&, T* panels, Stream);

template <typename T>
struct CellStep {
  DecoderStep at;
  CellKind cell;
  int64_t hidden;
  StepInput<T> input;              // panels of G' gates
  StepRows<const Acc<T>> addends;  // [G' * H] to the products
  StepRows<const Acc<T>> h_prev;   // [H]
  StepRows<const Acc<T>> c_prev;   // [H] or null
  StepRows<Acc<T>> saved;          // [saved * H], then h
  StepRows<T> next;                // [H] h, for this layer's next step
  StepRows<T> up;                  // [H] mask * h, for what reads it in this one
  StepRows<const Acc<T>> mask;     // [H] or null
};
template <typename T>
void cell_step(const CellStep<T>&, Stream);

template <typename T>
struct CombineStep {
  DecoderStep at;
  int64_t hidden;
  StepInput<T> input;           // [context; h] with W_c
  StepRows<const Acc<T>> mask;  // [H] or null
  StepRows<Acc<T>> vector;      // [H] out: tanh of the product
  StepRows<Acc<T>> output;      // [H] out: mask * vector
  StepRows<T> next;             // [H] out: the same
};
template <typename T>
void combine_step(const CombineStep<T>&, Stream);

// A product's columns as they are: the first `split` to `left`, the others to `right`.
template <typename T>
struct ProductStep {
  DecoderStep at;
  int64_t columns, split;
  StepInput<T> input;
  StepRows<Acc<T>> left, right;
  bool adds_left, adds_right;  // to what is there
};
template <typename T>
void product_step(const ProductStep<T>&, Stream);

// Rows as products take them.
template <typename T>
struct RoundStep {
  DecoderStep at;
  int64_t columns;
  StepRows<const Acc<T>> from;
  StepRows<T> to;
};
template <typename T>
void round_step(const RoundStep<T>&, Stream);

// grad = (grad_output + grad_fed) * mask * (1 - vector^2)
template <typename T>
struct VectorGradientStep {
  DecoderStep at;
  int64_t hidden;
  StepRows<const Acc<T>> vector, mask, grad_output, grad_fed;  // mask may be null
  StepRows<T> grad;
};
template <typename T>
void vector_gradient_step(const VectorGradientStep<T>&, Stream);

template <typename T>
struct CellGradientStep {
  DecoderStep at;
  CellKind cell;
  int64_t hidden;
  StepRows<const Acc<T>> saved, h_prev, c_prev;  // as in CellStep
  StepRows<const Acc<T>> above, mask;            // of h on its way up; mask may be null
  StepRows<const Acc<T>> beside;                 // of h as a query; or null
  StepRows<Acc<T>> grad_h;  // [H] in: of h from the step after; out: what passes the gates by
  StepRows<Acc<T>> grad_c;  // [H] in: of c, out: of c_prev; null without a cell state
  StepRows<T> grad_gates;   // [G' * H] out
};
template <typename T>
void cell_gradient_step(const CellGradientStep<T>&, Stream);

}  // namespace seq2seq_ext::cuda
