#include "../attention.h"

#include "additive_attention.h"
#include "dot_attention.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

namespace {

// Through the context and the softmax: w * (grad_w - sum(w * grad_w)).
template <typename T>
void grad_scores(const AttentionBackward<T>& g) {
  const AttentionSizes& s = g.in.sizes;
  inner_products<T>(
      {g.grad_context, g.in.memory, s.queries, s.length, s.memory, T(1), g.grad_scores, s.source});
  for (int64_t t = 0; t < s.queries; ++t) {
    T* grad = g.grad_scores + t * s.source;
    const T* weights = g.weights + t * s.source;
    const T* grad_weights =
        g.grad_weights.data ? g.grad_weights.data + t * g.grad_weights.stride : nullptr;
    T mean = 0, rest = 0;
    for (int64_t i = 0; i < s.length; ++i) {
      if (grad_weights) grad[i] += grad_weights[i];
      mean += weights[i] * grad[i];
    }
    // The gradients sum to zero: where keys are alike, what rounding has left of the sum would pass
    // for grad_query.
    for (int64_t i = 0; i < s.length; ++i) rest += weights[i] * (grad[i] -= mean);
    for (int64_t i = 0; i < s.length; ++i) grad[i] = g.in.scale * weights[i] * (grad[i] - rest);
    zero(grad + s.length, s.source - s.length);
  }
}

template <typename T>
void grad_memory(const AttentionBackward<T>& g, int64_t begin, int64_t end) {
  const AttentionSizes& s = g.in.sizes;
  weighted_sums<T>({g.weights, 1, s.source, g.grad_context, s.length, s.queries, begin, end,
                    g.grad_memory, s.memory});
  zero_masked_rows(s, g.grad_memory, s.memory, begin, end);
}

}  // namespace

template <typename T>
AttentionKernels<T> attention_kernels() {
  return {kPanelWidth<T>,
          {additive_forward_workspace<T>, additive_backward_workspace<T>, additive_forward<T>,
           additive_grad_query<T>, additive_grad_inputs<T>},
          {no_workspace, no_workspace, dot_forward<T>, dot_grad_query<T>, dot_grad_inputs<T>},
          grad_scores<T>,
          grad_memory<T>};
}

template AttentionKernels<float> attention_kernels();
template AttentionKernels<double> attention_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
