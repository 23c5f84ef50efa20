// Beam search over the candidates of each row (topk.h), in parts that know only those before:
//   search/options.h    what each sentence is told
//   search/logit_rules  what changes a row of logits before its candidates are taken
//   search/scoring      what a hypothesis is worth; search/pool keeps those that have ended
//   search/group        the rows of a beam -> the survivors of a step
//   BeamSearch          the beams of a batch
//
// Semantics (the Python reference is the same, line for line):
// - Candidates are ordered by (key desc, parent asc, logit desc, token asc): a total order. The
//   key is the sum; with diversity less its share for each use of the token by an earlier group
//   in this step, with a stepwise coverage penalty plus its term, with rank_by_score the score.
// - They are walked until beam_size of them that do not end are met; those survive. Every one
//   met before that ends with EOS goes to the pool. EOS before min_length or while a constraint
//   is not fulfilled is passed over. Only beam 0 is live in the first step; under ancestral
//   sampling all are, and each takes the first candidate of its own row.
// - Finished::kDip and kShrink walk beam_size candidates (less the places closed) in all, so what
//   ends is not replaced. Under kCarry what has ended keeps its place as a candidate with the
//   key that it has, and the pool is the beam at the end. Under kExtend it goes to the pool and
//   its place goes on from it as from any other, but nothing behind an EOS ends. Unless
//   ends_beyond_beam, a candidate that beam_size others precede cannot end.
// - Length counts EOS. At max_length every candidate met goes to the pool as it is.
// - The pool keeps the best by (score desc, order of ending): n_best where the stop is exact
//   (more could only delay it), else patience * beam_size.
// - If every live row dies while the pool is empty, the dying prefixes enter it as they are. A
//   hypothesis with a phrase missing or a trie's sequence unfinished never enters.
// - The exact stop: the pool is full and no live hypothesis can beat its worst any more. Sums
//   only fall and coverage terms are at most 0, so the best score of a live sum over the lengths
//   in reach is a sound bound.
// - Under Gumbel sampling the key is the perturbed log-prob given the parent's, and the score is
//   the key: the pool is a sample without replacement.
// - Phrases: of the candidates in order, the first of each bank (those that have come equally
//   far in the phrases), the furthest bank first, then the second of each, and so on.
// - Groups divide a sentence's rows, each with its own pool; results are merged by score.
// - The rows of a sentence are neighbours and their number is fixed. A row without a live
//   hypothesis gets pad_id as its token and itself as its parent.
#pragma once

#include <cstdint>
#include <vector>

#include "search/group.h"
#include "search/options.h"

namespace seq2seq_ext {

// Each row's best candidates, best first: [rows, width]. `perturbed` may be null where no
// sentence samples with Gumbel noise, attention [rows, positions] where none has a coverage
// penalty. What stands in rows that are not live is not read.
struct Candidates {
  const double* log_probs;
  const int64_t* tokens;
  int64_t width;
  const double* perturbed = nullptr;
  const double* attention = nullptr;
  int64_t positions = 0;
};

class BeamSearch {
 public:
  // One entry for each sentence.
  explicit BeamSearch(std::vector<SearchOptions> options);

  int64_t batch_size() const { return sentences_.size(); }
  int64_t rows() const { return sentence_of_row_.size(); }
  int64_t first_row(int64_t sentence) const { return sentences_[sentence].first_row; }
  const SearchOptions& options(int64_t sentence) const { return sentences_[sentence].options; }

  // How many candidates a row must offer, if its vocabulary has them.
  int64_t width() const { return width_; }

  // The largest token id that options name: the vocabulary must reach beyond it.
  int64_t largest_token() const { return largest_token_; }

  bool done() const;
  bool done(int64_t sentence) const;

  // Whether the next step reads the row.
  bool is_live(int64_t row) const;

  // The tokens behind a live row.
  std::vector<int64_t> prefix(int64_t row) const;

  // Whether a live row has rules in the next step: then its logits must be materialised and go
  // through choose(). Where not, the best `width` of log_softmax_topk are its candidates.
  bool has_rules() const;
  bool has_rules(int64_t row) const;

  // Whether a row may have rules in any step.
  bool may_have_rules() const;

  // Whether a sentence has a coverage penalty: then its rows' attention must be shown.
  bool needs_attention() const;

  // Whether a step has been taken.
  bool has_begun() const;

  // A live row's candidates, under its rules if it has any. logits [vocab] are overwritten. May
  // run for several rows at once, each with a workspace of its own.
  template <typename T>
  void choose(int64_t row, T* logits, int64_t vocab, const RowCandidates& out,
              RuleWorkspace<T>* workspace) const;

  // One step. tokens and parents are [rows]; a parent is a row.
  void advance(const Candidates& candidates, int64_t* tokens, int64_t* parents);

  // That of one sentence, of whose rows alone is read and written. May run for several at once.
  void advance(int64_t sentence, const Candidates& candidates, int64_t* tokens, int64_t* parents);

  // What is live in a sentence ends as it is.
  void stop(int64_t sentence);

  // At most n_best, the best first.
  std::vector<Hypothesis> hypotheses(int64_t sentence) const;

  // The hypothesis of each row that has one, by rows. The tokens are those of the prefix.
  std::vector<Hypothesis> live(int64_t sentence) const;

 private:
  struct Sentence {
    SearchOptions options;
    std::vector<Group> groups;
    int64_t first_row;
    std::vector<int64_t> used;  // tokens that groups took in this step

    int64_t beams() const { return options.beam_size / options.groups; }  // of a group
  };

  const Group& group_of(int64_t row, int64_t* beam) const;

  std::vector<Sentence> sentences_;
  std::vector<int64_t> sentence_of_row_;
  int64_t width_ = 0;
  int64_t largest_token_ = 0;
};

}  // namespace seq2seq_ext
