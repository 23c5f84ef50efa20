// Scores of dot attention (Luong et al. 2015): score(t, s) = scale * q_t . k_s.
#pragma once

#include "attention_rows.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

inline int64_t no_workspace(const AttentionSizes&) { return 0; }

template <typename T>
void dot_forward(const AttentionForward<T>& f) {
  const AttentionSizes& s = f.in.sizes;
  inner_products<T>(
      {f.in.query, f.in.keys, s.queries, s.length, s.attention, f.in.scale, f.weights, s.source});
  finish_forward(f);
}

template <typename T>
void dot_grad_query(const AttentionBackward<T>& g, int64_t begin, int64_t end) {
  const AttentionSizes& s = g.in.sizes;
  weighted_sums<T>({g.grad_scores, s.source, 1, g.in.keys, s.queries, s.length, begin, end,
                    g.grad_query, s.attention});
}

template <typename T>
void dot_grad_query(const AttentionBackward<T>& g) {
  dot_grad_query(g, 0, g.in.sizes.attention);
}

template <typename T>
void dot_grad_inputs(const AttentionBackward<T>& g, int64_t begin, int64_t end) {
  const AttentionSizes& s = g.in.sizes;
  dot_grad_query(g, begin, end);
  weighted_sums<T>({g.grad_scores, 1, s.source, g.in.query, s.length, s.queries, begin, end,
                    g.grad_keys, s.attention});
  zero_masked_rows(s, g.grad_keys, s.attention, begin, end);
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
