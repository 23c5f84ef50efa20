// Additive and dot attention: checks, outputs, and the cut of the work over sentences.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <memory>
#include <tuple>

#include "attention_inputs.h"
#include "kernels/isa.h"
#include "parallel.h"

namespace seq2seq_ext {

namespace {

using at::Tensor;

// Calls body(b, begin, end, workspace) until the n items of every sentence are done. Sentences
// are cut, at multiples of block, only when there are fewer of them than threads.
template <typename T, class Body>
void for_each_part(int64_t batch, int64_t n, int64_t block, int64_t sentence_work,
                   int64_t workspace_size, const Body& body) {
  const int64_t threads = max_threads(), blocks = (n + block - 1) / block;
  const int64_t parts = batch == 0 ? 0 : std::min(blocks, (threads + batch - 1) / batch);
  if (parts == 0) return;
  const auto run = [&](int64_t first, int64_t last) {
    const auto workspace = std::make_unique_for_overwrite<T[]>(workspace_size);
    for (int64_t task = first; task < last; ++task) {
      const int64_t part = task % parts;
      body(task / parts, blocks * part / parts * block,
           std::min(n, blocks * (part + 1) / parts * block), workspace.get());
    }
  };
  // Below this many steps a thread costs more than it does.
  constexpr int64_t kWorthAThread = 30'000;
  const int64_t grain = 1 + kWorthAThread / (1 + sentence_work / parts);
  if (threads == 1)
    run(0, batch * parts);
  else
    at::parallel_for(0, batch * parts, grain, run);
}

template <typename T>
std::tuple<Tensor, Tensor> forward(const AttentionBatch& batch) {
  const AttentionSizes& s = batch.sizes;
  const AttentionKernels<T>& k = kernels<T>().attention;
  const ScoreKernels<T>& scores = batch.is_additive() ? k.additive : k.dot;
  const Tensor context = batch.empty({batch.batch, s.queries, s.memory});
  const Tensor weights = batch.empty({batch.batch, s.queries, s.source});
  T* const c = context.template data_ptr<T>();
  T* const w = weights.template data_ptr<T>();
  for_each_part<T>(batch.batch, s.queries, 1, s.queries * s.source * (s.attention + s.memory),
                   scores.forward_workspace(s),
                   [&](int64_t b, int64_t begin, int64_t end, T* workspace) {
                     const int64_t row = b * s.queries + begin;
                     scores.forward({batch.sentence<T>(b, begin, end),
                                     {c + row * s.memory, s.memory},
                                     w + row * s.source,
                                     workspace});
                   });
  return {context, weights};
}

struct Gradients {
  Tensor query, keys, v, memory;
};

// The sentences' parts, in order.
template <typename T>
Tensor sum_sentences(const Tensor& parts, const Tensor& total) {
  const int64_t n = total.numel();
  const T* from = parts.const_data_ptr<T>();
  T* to = total.data_ptr<T>();
  std::fill_n(to, n, T(0));
  for (int64_t b = 0; b < parts.size(0); ++b, from += n)
    for (int64_t i = 0; i < n; ++i) to[i] += from[i];
  return total;
}

template <typename T>
Gradients backward(const AttentionBatch& batch, const Tensor& weights, const Tensor& grad_context,
                   const Tensor& grad_weights) {
  const AttentionSizes& s = batch.sizes;
  const int64_t n = batch.batch;
  const AttentionKernels<T>& k = kernels<T>().attention;
  const ScoreKernels<T>& scores = batch.is_additive() ? k.additive : k.dot;
  const Tensor grad_scores = batch.empty({n, s.queries, s.source});
  const Tensor grad_v = batch.empty({batch.is_additive() ? n : 0, s.attention});
  Gradients g{batch.empty({n, s.queries, s.attention}), batch.empty({n, s.source, s.attention}),
              batch.empty({s.attention}), batch.empty({n, s.source, s.memory})};
  const auto sentence = [&](int64_t b, int64_t begin, int64_t end, T* workspace) {
    const int64_t row = b * s.queries + begin;
    return AttentionBackward<T>{
        batch.sentence<T>(b, begin, end),
        weights.const_data_ptr<T>() + row * s.source,
        AttentionBatch::rows<T>(grad_context, b, begin),
        AttentionBatch::rows<T>(grad_weights, b, begin),
        grad_scores.data_ptr<T>() + row * s.source,
        g.query.data_ptr<T>() + row * s.attention,
        g.keys.data_ptr<T>() + b * s.source * s.attention,
        batch.is_additive() ? grad_v.data_ptr<T>() + b * s.attention : nullptr,
        g.memory.data_ptr<T>() + b * s.source * s.memory,
        workspace};
  };
  const int64_t work = s.queries * s.source;
  for_each_part<T>(n, s.queries, 1, work * s.memory, 0,
                   [&](int64_t b, int64_t begin, int64_t end, T*) {
                     k.grad_scores(sentence(b, begin, end, nullptr));
                   });
  for_each_part<T>(n, s.memory, k.column_block, work * s.memory, 0,
                   [&](int64_t b, int64_t begin, int64_t end, T*) {
                     k.grad_memory(sentence(b, 0, s.queries, nullptr), begin, end);
                   });
  AttentionSizes longest = s;
  longest.length = s.source;
  for_each_part<T>(n, s.attention, k.column_block, work * s.attention,
                   scores.backward_workspace(longest),
                   [&](int64_t b, int64_t begin, int64_t end, T* workspace) {
                     scores.grad_inputs(sentence(b, 0, s.queries, workspace), begin, end);
                   });
  if (batch.is_additive()) sum_sentences<T>(grad_v, g.v);
  return g;
}

AttentionBatch check(const AttentionArguments& in) {
  check_floating(in.op, "query", in.query);
  return {in, check_lengths};
}

std::tuple<Tensor, Tensor> forward_any(const AttentionArguments& in) {
  const AttentionBatch batch = check(in);
  return in.query.scalar_type() == at::kFloat ? forward<float>(batch) : forward<double>(batch);
}

Gradients backward_any(const AttentionArguments& in, const Tensor& weights,
                       const Tensor& grad_context, const Tensor& grad_weights) {
  const AttentionBatch batch = check(in);
  const AttentionSizes& s = batch.sizes;
  batch.check("grad_context", grad_context, {batch.batch, s.queries, s.memory});
  batch.check("grad_weights", grad_weights, {batch.batch, s.queries, s.source});
  batch.check("weights", weights, {batch.batch, s.queries, s.source});
  const auto run = in.query.scalar_type() == at::kFloat ? &backward<float> : &backward<double>;
  return run(batch, weights.contiguous(), dense_rows(grad_context), dense_rows(grad_weights));
}

std::tuple<Tensor, Tensor> additive_attention(const Tensor& query, const Tensor& keys,
                                              const Tensor& v, const Tensor& memory,
                                              const std::optional<Tensor>& memory_lengths) {
  return forward_any({"additive_attention", query, keys, v, memory, memory_lengths, 1});
}

std::tuple<Tensor, Tensor, Tensor, Tensor> additive_attention_backward(
    const Tensor& grad_context, const Tensor& grad_weights, const Tensor& query, const Tensor& keys,
    const Tensor& v, const Tensor& memory, const std::optional<Tensor>& memory_lengths,
    const Tensor& weights) {
  const Gradients g =
      backward_any({"additive_attention_backward", query, keys, v, memory, memory_lengths, 1},
                   weights, grad_context, grad_weights);
  return {g.query, g.keys, g.v, g.memory};
}

std::tuple<Tensor, Tensor> dot_attention(const Tensor& query, const Tensor& keys,
                                         const Tensor& memory,
                                         const std::optional<Tensor>& memory_lengths,
                                         double scale) {
  return forward_any({"dot_attention", query, keys, {}, memory, memory_lengths, scale});
}

std::tuple<Tensor, Tensor, Tensor> dot_attention_backward(
    const Tensor& grad_context, const Tensor& grad_weights, const Tensor& query, const Tensor& keys,
    const Tensor& memory, const std::optional<Tensor>& memory_lengths, double scale,
    const Tensor& weights) {
  const Gradients g =
      backward_any({"dot_attention_backward", query, keys, {}, memory, memory_lengths, scale},
                   weights, grad_context, grad_weights);
  return {g.query, g.keys, g.memory};
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CPU, m) {
  m.impl("additive_attention", &additive_attention);
  m.impl("additive_attention_backward", &additive_attention_backward);
  m.impl("dot_attention", &dot_attention);
  m.impl("dot_attention_backward", &dot_attention_backward);
}

}  // namespace seq2seq_ext
