// The twin of ../beam_search.h on a GPU: one step of every sentence in one launch, which nobody
// waits for. Order, sums, scores and pools are the same, bit for bit, for what it knows: sentences
// that are told the same, Finished::kPool, no groups or sampling, of the rules those in TokenRules
// and topk.h, and the stops kExact, kHeuristic, kFirst and kNone. But the coverage penalty kGnmt is
// made of logarithms, and the device rounds its own.
//
// B sentences of K beams, N = B * K rows, W candidates a row, P places in a pool.
#pragma once

#include <cstdint>

#include "../search/options.h"
#include "../search/scoring.h"
#include "types.h"

namespace seq2seq_ext::cuda {

// What a sum is worth at a length: (sum + reward) / normaliser.
struct LengthScore {
  double reward, normaliser;
};

struct SearchRules {
  int64_t sentences, beams, width, pool, max_length, min_length, pad_id;
  EarlyStopping early_stopping;
  bool ends_beyond_beam, full_pool_is_closed, count_eos;  // as SearchOptions'
  int64_t monotone_from;   // the length from which an open hypothesis' score is monotone
  const int64_t* eos_ids;  // [eos_count]
  int64_t eos_count;
  const LengthScore* scores;  // [2, max_length + 1] by length, of open ones and with EOS
  bool ranks_with_coverage;   // whether live hypotheses are ranked with their terms too
};

// A token, and the row that it was chosen from.
struct SearchNode {
  int64_t parent, token;
  double log_prob;
};

struct EndedSearch {
  double score, sum;
  int64_t length, reason;  // Reason
  SearchNode last;         // meaningless if length is 0
};

struct SearchCounters {
  int64_t length;   // steps taken
  int64_t live;     // rows that go on; 0: the sentence is done
  int64_t ended;    // hypotheses in the pool
  int64_t offered;  // to the pool
};

// Before the first step: sums and counters zero, but for live = 1.
struct SearchState {
  double* sums;              // [B, K] of live rows
  SearchCounters* counters;  // [B]
  EndedSearch* pool;         // [B, P], best first
  SearchNode* nodes;         // [max_length, N] of the rows after each step
};

// log_probs, candidates: [N, W], each row's best first. terms: of coverage, [2, N], of each row as
// it is and of what goes on from it; null: 0. tokens, parents: [N] out.
void beam_search_step(const SearchRules&, const SearchState&, const double* log_probs,
                      const int64_t* candidates, const double* terms, int64_t* tokens,
                      int64_t* parents, Stream);

// The mass of attention that each position of the source has had, S of them.
struct CoverageGrowth {
  CoveragePenalty penalty;  // not kNone
  double beta;
  int64_t sentences, beams, positions;
  const int64_t* lengths;   // [B] positions that count, clamped to [0, S]
  const double* coverage;   // [N, S] of rows as they are
  const double* attention;  // [N, S]
  double* grown;            // [N, S] out: of what goes on from them
  double* terms;            // [2, N] out: of both
};
void grow_coverage(const CoverageGrowth&, Stream);

// What each row has said, and what it may and may not say next, as logit_rules.h has it.
struct TokenRules {
  int64_t ngram_size;     // no n-gram comes twice; 0 for no rule
  int64_t first;          // a token before the first that counts as one of the row's, or kNoToken
  const int64_t* banned;  // [banned_count, banned_stride]: sequences, each behind its length >= 1
  int64_t banned_count, banned_stride;
  const int64_t* prefix;  // [prefix_length]: the first tokens, and no rule holds there
  int64_t prefix_length;
  bool force_eos;   // only SearchRules' eos_ids at max_length
  int64_t* listed;  // [N, listed_size()] out, as in topk.h; 0 where nothing is live
  int64_t* seen;    // [N, seen_size()] out, the same; or null
};
constexpr int64_t kNoToken = -1;
constexpr int64_t kLongestPath = 4096;  // max_length at most: paths lie in shared memory
inline int64_t listed_size(const TokenRules& rules, const SearchRules& search) {
  return 1 + search.max_length + rules.banned_count + search.eos_count;
}
inline int64_t seen_size(const SearchRules& search) { return 1 + search.max_length; }
void list_tokens(const TokenRules&, const SearchRules&, const SearchState&, Stream);

}  // namespace seq2seq_ext::cuda
