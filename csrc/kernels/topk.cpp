#include "topk.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace seq2seq_ext {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename T>
bool is_better(const Token<T>& a, const Token<T>& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// The list whose last token is the best.
template <typename T>
BestTokens<T>* best_list(const ScannedRow<T>& row) {
  BestTokens<T>* best = nullptr;
  for (BestTokens<T>* list = row.lists; list < row.lists + row.list_count; ++list)
    if (list->count > 0 &&
        (!best || is_better(list->tokens[list->count - 1], best->tokens[best->count - 1])))
      best = list;
  return best;
}

// The lowest tokens that are not among the first kept, with -inf. sorted [k]: scratch.
template <typename T>
void fill(int64_t kept, int64_t k, Token<T>* sorted, T* log_probs, int64_t* tokens) {
  const auto is_lower = [](const Token<T>& a, const Token<T>& b) { return a.id < b.id; };
  Token<T>* const end = sorted + kept;
  for (int64_t i = 0; i < kept; ++i) sorted[i].id = tokens[i];
  std::sort(sorted, end, is_lower);
  for (int64_t token = 0; kept < k; ++token) {
    if (std::binary_search(sorted, end, Token<T>{{}, token}, is_lower)) continue;
    log_probs[kept] = static_cast<T>(-kInfinity);
    tokens[kept++] = token;
  }
}

}  // namespace

double log_sum_exp(const BlockSum* sums, int64_t blocks) {
  double max = -kInfinity;
  for (int64_t b = 0; b < blocks; ++b) {
    if (std::isnan(sums[b].max)) return sums[b].max;
    max = std::max(max, sums[b].max);
  }
  if (!std::isfinite(max)) return max;
  double sum = 0;
  for (int64_t b = 0; b < blocks; ++b)
    if (sums[b].max > -kInfinity) sum += sums[b].sum_exp * std::exp(sums[b].max - max);
  return max + std::log(sum);
}

template <typename T>
void merge(const ScannedRow<T>& row, int64_t k, T* log_probs, int64_t* tokens) {
  merge(row, log_sum_exp(row.sums, row.blocks), k, log_probs, tokens);
}

template <typename T>
void merge(const ScannedRow<T>& row, double lse, int64_t k, T* log_probs, int64_t* tokens) {
  int64_t kept = 0;
  if (std::isfinite(lse)) {
    for (BestTokens<T>* list = row.lists; list < row.lists + row.list_count; ++list)
      std::sort(list->tokens, list->tokens + list->count,
                [](const Token<T>& a, const Token<T>& b) { return is_better(b, a); });
    for (BestTokens<T>* list; kept < k && (list = best_list(row)); ++kept) {
      const Token<T>& token = list->tokens[--list->count];
      log_probs[kept] = static_cast<T>(std::min(0.0, static_cast<double>(token.logit) - lse));
      tokens[kept] = token.id;
    }
  }
  if (kept < k) fill(kept, k, row.lists->tokens, log_probs, tokens);
}

template <typename T>
void scan_products(const LinearTopk<T>& rows, const Reader& reader, T* workspace, T** c) {
  // Rows that lie a power of two apart would share few of the cache's sets.
  const int64_t stride = linear_topk_workspace<T>(1);
  for (int64_t row = 0; row < rows.rows; ++row) c[row] = workspace + row * stride;
  const int64_t width = rows.gemm.panel_width, panel_bytes = rows.gemm.panel_bytes(rows.depth);
  const int64_t blocks = topk_blocks(rows.vocabulary);
  const Share share = reader.blocks(blocks);
  for (int64_t block = share.begin; block < share.end; ++block) {
    const int64_t first = block * kTopkBlock, n = std::min(kTopkBlock, rows.vocabulary - first);
    const char* panels = static_cast<const char*>(rows.panels) + first / width * panel_bytes;
    const T* bias = rows.bias ? rows.bias + first : nullptr;
    rows.gemm.multiply({rows.depth, n, rows.a, panels, c, bias, false}, 0, rows.rows, 0,
                       (n + width - 1) / width);
    for (int64_t row = 0; row < rows.rows; ++row)
      rows.topk.scan(c[row], first, n, rows.k, rows.sums + row * blocks + block,
                     rows.lists + row * reader.count + reader.index);
  }
}

template void scan_products(const LinearTopk<float>&, const Reader&, float*, float**);
template void scan_products(const LinearTopk<double>&, const Reader&, double*, double**);
template void merge(const ScannedRow<float>&, int64_t, float*, int64_t*);
template void merge(const ScannedRow<double>&, int64_t, double*, int64_t*);
template void merge(const ScannedRow<float>&, double, int64_t, float*, int64_t*);
template void merge(const ScannedRow<double>&, double, int64_t, double*, int64_t*);

}  // namespace seq2seq_ext
