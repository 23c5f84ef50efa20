// The twin of ../topk.h on a GPU, in two stages: blocks of each row, then the row. The cut of a row
// follows from nothing but its length, so its bits depend on nothing but itself, and are the same
// whether its logits lie in memory or have just been made.
#pragma once

#include "../search/sampling.h"
#include "../topk.h"
#include "gemm.h"

namespace seq2seq_ext::cuda {

constexpr int64_t kScanned = 64;  // logits of a block: of one BlockSum and one list of tokens

constexpr int64_t topk_lists(int64_t vocabulary) { return (vocabulary + kScanned - 1) / kScanned; }

// The tokens of a list, best first. Under noise it is one more, as sums of logit and noise are
// rounded where lists are made: only of three that are equal but for roundings one may be lost.
constexpr int64_t topk_offers(int64_t k, bool has_noise) {
  const int64_t wanted = k + has_noise;
  return wanted < kScanned ? wanted : kScanned;
}

// What becomes of the logits of a row, and what it offers: rules that know nothing change nothing.
// A list is [rows, its stride] or null: a number n, and |n| of the row's tokens.
template <typename A>
struct TopkRules {
  // In this order, as ../search/logit_rules.h has them.
  A temperature = 1;  // divides all
  A penalty = 1;      // divides those above 0 of the tokens in `seen`, multiplies its others
  const int64_t* seen = nullptr;  // a token may be there several times
  int64_t seen_stride = 0;
  // These tokens, or where n is below 0 all but these, count in the row's sum but come last, with a
  // log-prob of -inf.
  const int64_t* listed = nullptr;
  int64_t listed_stride = 0;
  // [rows] or null: tokens behind a row's floor, in the order (logit desc, token asc) of what they
  // have become, come last too. Read in log_softmax_topk() alone.
  const Token<double>* floors = nullptr;
};

// Under which a row's best are those by log-prob plus noise; -inf stays that.
struct TopkNoise {
  const NoisePlace* places = nullptr;  // [rows]; null: no noise
  double* offered = nullptr;           // [rows, topk_lists(), topk_offers()] scratch
  double* perturbed = nullptr;         // [rows, k] out: log-probs plus noise
};

template <typename T>
struct TopkRows {
  int64_t rows, vocabulary, k;  // 1 <= k <= vocabulary
  BlockSum* sums;               // [rows, topk_lists()] scratch
  Token<Acc<T>>* offers;        // [rows, topk_lists(), topk_offers()] scratch
  Acc<T>* log_probs;            // [rows, k] out
  int64_t* tokens;              // [rows, k] out
  TopkRules<Acc<T>> rules;
  TopkNoise noise;
};

// logits: [rows, V], `stride` from one row to the next.
template <typename T>
void log_softmax_topk(const TopkRows<T>&, const T* logits, int64_t stride, Stream);

// The same for the logits that gemm() would give, which never get to memory.
template <typename T>
void linear_log_softmax_topk(const TopkRows<T>&, const Gemm<T>&, bool tf32, Stream);

// The floors under which top_k (0: all) and then `wanted` shares of the rest, see
// ../search/nucleus.h, keep what logit_rules.h has them keep: in the whole row, and exactly, but
// for the device's own logarithms and powers.
template <typename A>
struct Nucleus {
  int64_t rows, vocabulary;
  const A* logits;  // [rows, V], `stride` from one row to the next
  int64_t stride;
  TopkRules<A> rules;  // without floors
  int64_t top_k;
  uint64_t wanted;
  A* ruled;               // [rows, V] scratch
  Token<double>* floors;  // [rows] out
};
template <typename A>
void find_nucleus(const Nucleus<A>&, Stream);

}  // namespace seq2seq_ext::cuda
