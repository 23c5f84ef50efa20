// The twin of ../beam_search.h on a GPU: one step of every sentence in one launch, which nobody
// waits for. Order, sums, scores and pools are the same, bit for bit, for what it knows: sentences
// that are told the same but for their seeds, Finished::kPool, groups where nothing is sampled, of
// the rules those in TokenRules and topk.h, and the stops kExact, kHeuristic, kFirst and kNone;
// under Sampling::kAncestral kNone alone. But the coverage penalty kGnmt and Gumbel noise are made
// of logarithms, and the device rounds its own.
//
// B sentences of G groups of K beams, N = B * G * K rows, W candidates a row, P places in each
// group's pool.
#pragma once

#include <cstdint>

#include "../search/everywhere.h"
#include "../search/options.h"
#include "../search/sampling.h"
#include "../search/scoring.h"
#include "types.h"

namespace seq2seq_ext::cuda {

// What a sum is worth at a length: (sum + reward) / normaliser.
struct LengthScore {
  double reward, normaliser;
};

struct SearchRules {
  int64_t sentences, groups, beams;  // B, G, K
  int64_t width, pool, max_length, min_length, pad_id;
  EarlyStopping early_stopping;
  bool ends_beyond_beam, full_pool_is_closed, count_eos;  // as SearchOptions'
  int64_t monotone_from;   // the length from which an open hypothesis' score is monotone
  const int64_t* eos_ids;  // [eos_count]
  int64_t eos_count;
  const LengthScore* scores;  // [2, max_length + 1] by length, of open ones and with EOS
  bool ranks_with_coverage;   // whether live hypotheses are ranked with their terms too
  Sampling sampling;
  double diversity;  // as SearchOptions'

  SEQ2SEQ_EXT_EVERYWHERE int64_t rows() const { return sentences * groups * beams; }
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
  int64_t live;     // rows that go on; 0: the group is done
  int64_t ended;    // hypotheses in the pool
  int64_t offered;  // to the pool
};

// Before the first step: sums, keys and counters zero, but for live = 1, or K under kAncestral;
// places with their seeds, step 0, and a row's place in its sentence as its lane.
struct SearchState {
  double* sums;              // [B, G, K] of live rows
  SearchCounters* counters;  // [B, G]
  EndedSearch* pool;         // [B, G, P], best first
  SearchNode* nodes;         // [max_length, N] of the rows after each step
  double* keys;              // [N] what live rows were ranked by; null but under kGumbel
  NoisePlace* places;        // [N] of the next step's noise; null without sampling
};

struct SearchCandidates {
  const double* log_probs;  // [N, W], each row's best first: under sampling by `perturbed`
  const int64_t* tokens;    // [N, W]
  const double* terms;      // [2, N] of coverage, of rows as they are and of what goes on from
                            // them; null: 0
  const double* perturbed;  // [N, W] log-probs plus noise; read under kGumbel
  double* keys;             // [N, W] scratch, and
  int64_t* order;           // [N, W] scratch, where that order is not theirs: under kGumbel, or
                            // with diversity; else null
};

// tokens, parents: [N] out.
void beam_search_step(const SearchRules&, const SearchState&, const SearchCandidates&,
                      int64_t* tokens, int64_t* parents, Stream);

// Of a row's `count` tokens the best W by log-prob plus noise.
struct Draw {
  int64_t rows, count, width;  // 1 <= width <= count <= kMostDrawnFrom
  const NoisePlace* places;    // [rows]
  const double* log_probs;     // [rows, count]
  const int64_t* tokens;       // [rows, count]
  double* drawn_log_probs;     // [rows, width] out, -inf where there are no more
  int64_t* drawn_tokens;       // [rows, width] out
  double* perturbed;           // [rows, width] out: log-probs plus noise
};
constexpr int64_t kMostDrawnFrom = 4096;  // their sums lie in shared memory
void draw(const Draw&, Stream);

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
  bool force_eos;   // at max_length only those of SearchRules' eos_ids that nothing bans
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
