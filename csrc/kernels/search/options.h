// What one sentence's search is told. Every sentence of a batch has its own.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "constraints.h"

namespace seq2seq_ext {

enum class LengthPenalty { kNone, kPower, kGnmt, kAverage };
enum class CoveragePenalty { kNone, kGnmt, kSummary };

// When a beam stops that could go on.
enum class EarlyStopping {
  kExact,      // the pool is full and no live hypothesis can enter it any more: a sound bound
  kHeuristic,  // the pool is full and no live hypothesis would enter it as it is
  kFirst,      // as many as the pool holds have ended
  kTop,        // n_best have ended, and once the best candidate of a step did
  kTopNow,     // n_best have ended, and the best candidate of this step does
  kPlaces,     // every place of the beam has once held an EOS, or nothing
  kNone,       // never
};

// What a hypothesis that ends does to the beam.
enum class Finished {
  kPool,    // its place goes to the next candidate
  kDip,     // its place is empty for one step
  kShrink,  // its place is gone
  kCarry,   // it keeps its place and competes for it
  kExtend,  // it keeps its place and goes on, but nothing behind its EOS ends
};

enum class Sampling {
  kNone,
  kAncestral,  // every beam draws its own tokens: independent samples
  kGumbel,     // the beam is a sample without replacement (Kool et al. 2019)
};

struct SearchOptions {
  std::vector<int64_t> eos_ids;  // at least one
  int64_t bos_id = 0;            // before the first token
  int64_t pad_id = 0;

  int64_t beam_size = 5;
  int64_t n_best = 1;    // at most beam_size
  double patience = 1;   // the pool holds patience * beam_size, where it is not exact
  int64_t groups = 1;    // divides beam_size
  double diversity = 0;  // at least 0: taken from a candidate's rank for each earlier group's use

  int64_t max_length = 100;  // at least 1
  int64_t min_length = 0;

  // score = (sum + word_reward * L) / normaliser(L) + coverage term
  LengthPenalty length_penalty = LengthPenalty::kNone;
  double alpha = 1;
  double word_reward = 0;
  int64_t length_offset = 0;  // L is the number of tokens plus this
  bool count_eos = true;      // whether EOS is one of them
  CoveragePenalty coverage_penalty = CoveragePenalty::kNone;
  double beta = 0;                 // at least 0
  bool coverage_stepwise = false;  // whether live hypotheses are ranked with it too
  int64_t source_length = 0;       // positions of attention that count

  EarlyStopping early_stopping = EarlyStopping::kExact;
  Finished finished = Finished::kPool;
  bool rank_by_score = false;        // under kCarry only: compete by scores, not sums
  bool ends_beyond_beam = true;      // whether a candidate may end that beam_size others precede
  bool full_pool_is_closed = false;  // whether a full pool takes no more, not even better ones
  bool force_eos = false;            // whether the token at max_length must be EOS

  // Rules, in the order they are applied to a row.
  std::shared_ptr<const std::vector<int64_t>> shortlist;  // ascending; null: all tokens
  bool rules_on_log_probs = false;
  double temperature = 1;         // above 0
  double repetition_penalty = 1;  // above 0
  bool rules_see_bos = false;     // whether bos_id counts as the prefix's first token
  int64_t no_repeat_ngram = 0;    // 0: none
  std::vector<std::vector<int64_t>> banned;
  std::vector<int64_t> prefix;
  std::shared_ptr<const TokenTrie> trie;
  std::shared_ptr<const PhraseSet> phrases;
  int64_t top_k = 0;         // 0: all
  double top_p = 1;          // 1: all
  bool renormalize = false;  // whether the log-softmax is over what the rules leave
  bool normalized = false;   // whether logits are log-probs already

  Sampling sampling = Sampling::kNone;
  uint64_t seed = 0;

  bool is_eos(int64_t token) const {
    for (const int64_t id : eos_ids)
      if (id == token) return true;
    return false;
  }

  // Of all that name one; bos_id only where rules see it.
  int64_t largest_token() const;
};

}  // namespace seq2seq_ext
