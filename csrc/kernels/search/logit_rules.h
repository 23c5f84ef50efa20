// What changes a row of logits before its candidates are taken. In this order:
//   shortlist           other tokens become -inf: they do not exist
//   rules_on_log_probs  the row becomes its log-softmax
//   temperature         divides the row
//   repetition_penalty  divides the logits above 0 of the prefix's tokens, multiplies the others
//                       (Keskar et al. 2019)
//   bans                become -inf: EOS before min_length or while a phrase is missing, what
//                       would end a banned sequence or repeat an n-gram of the prefix
//   allowance           all else becomes -inf: the forced prefix (which nothing else bans), EOS
//                       at max_length under force_eos, the trie's children
//   top_k, then top_p   keep the best k, and of them the fewest whose shares reach p, see
//                       nucleus.h
//   sampling            Gumbel noise decides the order
// log_prob = min(0, logit - logsumexp), where the logsumexp is that of the row before the bans,
// so they leave the log-probs of other tokens alone; under renormalize it is that of the row
// after top_p; 0 if neither and the row holds log-probs.
#pragma once

#include <cstdint>
#include <vector>

#include "../buffer.h"
#include "../topk.h"
#include "options.h"

namespace seq2seq_ext {

// How far a hypothesis has come in its constraints.
struct Progress {
  int64_t trie_node = TokenTrie::kRoot;
  PhraseSet::State phrases;

  Progress next(const SearchOptions& options, int64_t token) const;

  // Whether it may end here.
  bool is_complete(const SearchOptions& options) const;
};

// What rules look at: the hypothesis behind a row.
struct RulePrefix {
  std::vector<int64_t> tokens;
  Progress progress;
  int64_t lane;  // its beam; under ancestral sampling the sample that it is
};

// Whether a sentence's rows need choose_candidates after `length` tokens. Where not, the best
// tokens of the row are its candidates. What rules see does not matter where there are none.
bool rules_are_active(const SearchOptions& options, int64_t length);

// Where a row's candidates go, the best first; [width] each. `perturbed` is written only under
// Gumbel sampling: log_prob plus noise.
struct RowCandidates {
  double* log_probs;
  int64_t* tokens;
  double* perturbed;
  int64_t width;
};

// Memory for the rules on one row after another: what a row needed is there for the next.
template <typename T>
struct RuleWorkspace {
  RulePrefix prefix;
  std::vector<int64_t> seen, ids;
  std::vector<BlockSum> sums;
  Buffer<Token<T>> tokens;
  Buffer<T> log_probs;
  std::vector<Token<double>> drawn;
};

// The candidates of a row, of which at most `count` are the best and the others advance a
// phrase; the rest of the width is -inf. logits [vocab] are overwritten. The workspace's prefix
// is the row's.
template <typename T>
void choose_candidates(const SearchOptions& options, T* logits, int64_t vocab, int64_t count,
                       const RowCandidates& out, RuleWorkspace<T>* workspace);

// The same where no rule is active.
template <typename T>
void choose_best(const T* logits, int64_t vocab, int64_t count, const RowCandidates& out,
                 RuleWorkspace<T>* workspace);

}  // namespace seq2seq_ext
