// What forward and backward of the attentional decoder share on CUDA.
#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <tuple>

#include "../attentional_decoder_inputs.h"
#include "device.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attentional_decoder.h"
#include "kernels/cuda/recurrent.h"

namespace seq2seq_ext::cuda {

// The checked arguments, the order of rows, and where a step finds what it reads.
class DecoderBatch : public DecoderTensors {
 public:
  DecoderBatch(const DecoderArguments& args, std::optional<at::ScalarType> dtype);

  // Rows of W = [W_ih | W_hh] of a layer, as ../../kernels/cuda/attentional_decoder.h says.
  int64_t gate_rows() const { return (2 * gates - merged) * sizes.hidden; }
  at::Tensor layer_weight(int64_t l) const;  // [G'*H, 2H], without the embedding's part
  at::Tensor embedding_weight() const;       // [G'*H, E]
  at::Tensor layer_bias(int64_t l) const;    // [G'*H]
  at::Tensor rounded(const at::Tensor& t) const { return t.to(products).contiguous(); }
  // Of every step and row, [B, T, n]: zeros past the end.
  at::Tensor living(const at::Tensor& t) const {
    return past_.defined() ? t.masked_fill(past_.unsqueeze(-1), 0) : t;
  }
  // A part of the saved rows.
  at::Tensor part(const at::Tensor& saved, int64_t begin, int64_t n) const {
    return saved.narrow(2, begin, n);
  }
  int64_t state(int64_t l) const { return l * row().layer + row().state; }
  int64_t query_part() const { return is_additive() ? row().query : state(sizes.layers - 1); }

  DecoderStep step(int64_t s) const {
    return {batch, s, data<const int64_t>(order_), data<const int64_t>(order_) + 2 * batch,
            allows_tf32()};
  }
  // Rows of a [B, T, n] tensor at a step, from a column on; null for an undefined one.
  template <typename T>
  StepRows<T> at(const at::Tensor& t, int64_t s, int64_t column = 0) const {
    if (!t.defined()) return {nullptr, 0};
    return {data<T>(t) + s * t.stride(1) + column, t.stride(0)};
  }
  // What a step read of the one before: of saved, or of the initial state [L, B, H].
  template <typename T>
  StepRows<const T> before(const at::Tensor& saved, const at::Tensor& initial, int64_t l, int64_t s,
                           int64_t column) const {
    if (!initial.defined()) return {nullptr, 0};
    if (s > 0) return at<const T>(saved, s - 1, column);
    return {data<const T>(initial) + l * batch * sizes.hidden, sizes.hidden};
  }
  template <typename T>
  StepRows<const T> layer_mask(int64_t l, int64_t s) const {
    if (!layer_masks.defined() || l + 1 == sizes.layers) return {nullptr, 0};
    return at<const T>(layer_masks[l], s);
  }
  // A step's queries; all of them with lengths of the whole memory.
  template <typename A>
  AttentionBatch<A> attention(const at::Tensor& saved, int64_t s) const {
    AttentionBatch<A> in = all_attention<A>(saved);
    in.sizes.queries = 1;
    in.lengths = data<const int64_t>(step_lengths_) + s * batch;
    in.query.data += s * saved.stride(1);
    return in;
  }
  template <typename A>
  AttentionBatch<A> all_attention(const at::Tensor& saved) const {
    return {batch,
            {steps, 0, sizes.source, sizes.attention, sizes.memory},
            data<const int64_t>(memory_lengths),
            {data<const A>(saved) + query_part(), saved.stride(0), saved.stride(1)},
            {data<const A>(keys), keys.stride(0), keys.stride(1)},
            data<const A>(v),
            {data<const A>(memory), memory.stride(0), memory.stride(1)},
            is_additive() ? 1.0 : scale};
  }

  at::ScalarType products;  // the type of both sides of products
  Stream stream;

 private:
  // Products of x, then the split ones of h; of rows by gate.
  at::Tensor gate_parts(const at::Tensor& of_x, const at::Tensor& of_h, bool is_sum) const;

  at::Tensor order_;         // rows, lengths, active, offsets
  at::Tensor past_;          // [B, T] or undefined
  at::Tensor step_lengths_;  // [T, B] of the memory, zero for rows that have ended
};

// A weight's panels: a row of the product is a row of `weight` (gates * units of them), or one of
// its columns if transposed.
template <typename T>
at::Tensor pack_panels(const DecoderBatch& d, const at::Tensor& any_weight, int64_t gates,
                       bool transposed) {
  const at::Tensor weight = d.rounded(any_weight);
  const int64_t rows = weight.size(transposed), depth = weight.size(!transposed);
  const int64_t width = weight.size(1), units = rows / gates;
  const at::Tensor panels = at::empty({step_panels_size<T>(gates, units, depth)}, weight.options());
  pack_step_panels<T>(
      {data<const T>(weight), transposed ? 1 : width, transposed ? width : 1, gates, units, depth},
      data<T>(panels), d.stream);
  return panels;
}

using DecoderOutputs = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using DecoderGradients =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor,
               at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

DecoderGradients decoder_backward(const DecoderBatch&, const at::Tensor& grad_output,
                                  const std::optional<at::Tensor>& grad_weights,
                                  const at::Tensor& weights, const at::Tensor& saved);

}  // namespace seq2seq_ext::cuda
