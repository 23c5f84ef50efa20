#include "kernels/cuda/attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <torch/library.h>

#include <tuple>

#include "../attention_inputs.h"
#include "device.h"

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;
using Arguments = AttentionArguments;

seq2seq_ext::AttentionBatch check(const Arguments& in) {
  check_type(in.op, "query", in.query);
  return {in, [&in](const char* op, const char* name, const Tensor& lengths, int64_t batch,
                    int64_t source) {
            return device_lengths(op, name, lengths, batch, source, in.query.device());
          }};
}

template <typename T>
BatchRows<const T> rows(const Tensor& t) {
  return {data<const T>(t), t.stride(0), t.stride(1)};
}

template <typename T>
AttentionBatch<T> kernel_batch(const seq2seq_ext::AttentionBatch& batch) {
  const Arguments& in = batch.arguments();
  return {batch.batch,        batch.sizes,      data<const int64_t>(batch.lengths()),
          rows<T>(in.query),  rows<T>(in.keys), in.v ? data<const T>(*in.v) : nullptr,
          rows<T>(in.memory), in.scale};
}

std::tuple<Tensor, Tensor> forward(const Arguments& in) {
  const c10::DeviceGuard guard = guard_of(in.op, "query", in.query);
  const auto batch = check(in);
  const AttentionSizes& s = batch.sizes;
  const at::ScalarType type = in.query.scalar_type();
  const Tensor context = batch.empty({batch.batch, s.queries, s.memory});
  const Tensor weights = batch.empty({batch.batch, s.queries, s.source});
  const Tensor scores =
      type == accumulator(type)
          ? weights
          : at::empty(weights.sizes(), weights.options().dtype(accumulator(type)));
  with_type(type, [&]<typename T>() {
    attention_forward<T>(kernel_batch<T>(batch),
                         {data<T>(context), data<T>(weights), data<Acc<T>>(scores)},
                         current_stream(in.query));
  });
  return {context, weights};
}

struct Gradients {
  Tensor query, keys, v, memory;
};

Gradients backward(const Arguments& in, const Tensor& weights, const Tensor& grad_context,
                   const Tensor& grad_weights) {
  const c10::DeviceGuard guard = guard_of(in.op, "query", in.query);
  const auto batch = check(in);
  const AttentionSizes& s = batch.sizes;
  batch.check("grad_context", grad_context, {batch.batch, s.queries, s.memory});
  batch.check("grad_weights", grad_weights, {batch.batch, s.queries, s.source});
  batch.check("weights", weights, {batch.batch, s.queries, s.source});
  const at::ScalarType type = in.query.scalar_type();
  const auto wide = in.query.options().dtype(accumulator(type));
  const Tensor w = weights.to(accumulator(type)).contiguous();
  const Tensor context = dense_rows(grad_context), direct = dense_rows(grad_weights);
  const Tensor scores = at::empty({batch.batch, s.queries, s.source}, wide);
  const int64_t parts = (s.queries + kAttentionRows - 1) / kAttentionRows;
  const Tensor v =
      batch.is_additive() ? at::empty({batch.batch, parts, s.attention}, wide) : Tensor();
  Gradients g{batch.empty({batch.batch, s.queries, s.attention}),
              batch.empty({batch.batch, s.source, s.attention}), Tensor(),
              batch.empty({batch.batch, s.source, s.memory})};
  with_type(type, [&]<typename T>() {
    const auto kernel = kernel_batch<T>(batch);
    const AttentionGradients<T> gradients{data<Acc<T>>(w),      rows<T>(context), rows<T>(direct),
                                          data<Acc<T>>(scores), data<T>(g.query), data<T>(g.keys),
                                          data<Acc<T>>(v),      data<T>(g.memory)};
    attention_query_gradient<T>(kernel, gradients, current_stream(in.query));
    attention_memory_gradient<T>(kernel, gradients, current_stream(in.query));
  });
  if (batch.is_additive()) g.v = v.sum(at::IntArrayRef{0, 1}).to(type);
  return g;
}

std::tuple<Tensor, Tensor> additive_attention(const Tensor& query, const Tensor& keys,
                                              const Tensor& v, const Tensor& memory,
                                              const std::optional<Tensor>& memory_lengths) {
  return forward({"additive_attention", query, keys, v, memory, memory_lengths, 1});
}

std::tuple<Tensor, Tensor, Tensor, Tensor> additive_attention_backward(
    const Tensor& grad_context, const Tensor& grad_weights, const Tensor& query, const Tensor& keys,
    const Tensor& v, const Tensor& memory, const std::optional<Tensor>& memory_lengths,
    const Tensor& weights) {
  const Gradients g =
      backward({"additive_attention_backward", query, keys, v, memory, memory_lengths, 1}, weights,
               grad_context, grad_weights);
  return {g.query, g.keys, g.v, g.memory};
}

std::tuple<Tensor, Tensor> dot_attention(const Tensor& query, const Tensor& keys,
                                         const Tensor& memory,
                                         const std::optional<Tensor>& memory_lengths,
                                         double scale) {
  return forward({"dot_attention", query, keys, {}, memory, memory_lengths, scale});
}

std::tuple<Tensor, Tensor, Tensor> dot_attention_backward(
    const Tensor& grad_context, const Tensor& grad_weights, const Tensor& query, const Tensor& keys,
    const Tensor& memory, const std::optional<Tensor>& memory_lengths, double scale,
    const Tensor& weights) {
  const Gradients g =
      backward({"dot_attention_backward", query, keys, {}, memory, memory_lengths, scale}, weights,
               grad_context, grad_weights);
  return {g.query, g.keys, g.memory};
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CUDA, m) {
  m.impl("additive_attention", &additive_attention);
  m.impl("additive_attention_backward", &additive_attention_backward);
  m.impl("dot_attention", &dot_attention);
  m.impl("dot_attention_backward", &dot_attention_backward);
}

}  // namespace seq2seq_ext::cuda
