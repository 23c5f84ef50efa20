// The most probable tokens of a row of logits, without a log-probability for any other token.
//
// - log_prob = min(0, logit - logsumexp(row)), rounded to the type of the logits, so that sums
//   of float32 log-probs are exact in float64 and ties stay ties. A row whose logsumexp is not
//   finite (a NaN, a +inf, or nothing but -inf) offers no candidates; -inf is never chosen.
// - Order: (logit desc, token asc), which is total.
//
// A row is read in blocks of kTopkBlock logits, whoever reads them and in whatever company, so
// its bits depend on nothing but itself. The best tokens go to as many lists as there are
// readers; which block went to which list changes nothing.
#pragma once

#include <cstdint>

#include "gemm.h"
#include "team.h"

namespace seq2seq_ext {

// Small, so that the blocks of a few rows are still in the cache when they are read, right
// after the product that wrote them.
constexpr int64_t kTopkBlock = 512;

struct BlockSum {  // a NaN in the block is one in either
  double max;
  double sum_exp;  // of e^(logit - max); meaningless unless max is finite
};

template <typename T>
struct Token {
  T logit;
  int64_t id;
};

// The best k of the tokens that were offered, in rising order of ids: a heap, the worst on top.
template <typename T>
struct BestTokens {
  Token<T>* tokens;  // [k]
  int64_t count = 0;
};

template <typename T>
struct TopkKernels {
  // Reads a block: n logits of the tokens from first on.
  void (*scan)(const T* logits, int64_t first, int64_t n, int64_t k, BlockSum*, BestTokens<T>*);
};

// A row that has been scanned.
template <typename T>
struct ScannedRow {
  const BlockSum* sums;  // [blocks], in their order
  int64_t blocks;
  BestTokens<T>* lists;  // [list_count]; used up in passing
  int64_t list_count;
};

// One of several readers of the same rows; each reads its share of the blocks, in order.
struct Reader {
  int64_t index, count;

  Share blocks(int64_t total) const { return share_of(total, index, count); }
};

constexpr int64_t topk_blocks(int64_t vocabulary) {
  return (vocabulary + kTopkBlock - 1) / kTopkBlock;
}

// Rows whose logits are a linear layer's: they are read as soon as they are made, a block of a
// few rows at a time, and never get to memory.
template <typename T>
struct LinearTopk {
  const GemmKernels<T>& gemm;
  const TopkKernels<T>& topk;
  int64_t depth, vocabulary;
  const void* const* a;  // [rows], as Gemm's
  int64_t rows;
  const void* panels;
  const T* bias;  // [vocabulary] or null
  int64_t k;
  BlockSum* sums;        // [rows, blocks]
  BestTokens<T>* lists;  // [rows, readers], empty at first
};

template <typename T>
constexpr int64_t linear_topk_workspace(int64_t rows) {
  return rows * (kTopkBlock + 64 / static_cast<int64_t>(sizeof(T)));
}

// workspace: linear_topk_workspace() values; c: [rows] pointers.
template <typename T>
void scan_products(const LinearTopk<T>&, const Reader&, T* workspace, T** c);

// Of a row, from its blocks in their order.
double log_sum_exp(const BlockSum* sums, int64_t blocks);

// The row's best k log_probs and tokens, in order. Where it has fewer candidates, the rest is
// -inf with the lowest tokens that are no candidates.
template <typename T>
void merge(const ScannedRow<T>& row, int64_t k, T* log_probs, int64_t* tokens);

// The same with another log-sum-exp than the row's.
template <typename T>
void merge(const ScannedRow<T>& row, double lse, int64_t k, T* log_probs, int64_t* tokens);

}  // namespace seq2seq_ext
