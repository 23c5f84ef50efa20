// Beam search over the candidates of each row (topk.h), in three parts that know only the one
// before:
//   Sentence      the rows of one sentence -> the survivors of a step
//   pool          hypotheses that have ended
//   back-pointers survivors' and hypotheses' tokens, read backwards at the end
//
// Semantics (the Python reference is the same, line for line):
// - Candidates are ordered by (sum desc, parent asc, logit desc, token asc): a total order.
//   They are walked until beam_size of them that do not end are met; those survive. Every one
//   met before that ends with EOS goes to the pool, unless it is shorter than min_length.
//   Only beam 0 is live in the first step.
// - Length counts EOS. At max_length every candidate met goes to the pool as it is.
// - The pool keeps the best beam_size by (score desc, order of ending). The score is the sum
//   over a normaliser: 1, L^alpha (power), or ((5 + L) / 6)^alpha (gnmt, Wu et al. 2016).
// - If every live row dies while the pool is empty, the dying prefixes enter it as they are.
// - A sentence stops when the pool is full and no live hypothesis can beat its worst any more:
//   sums only fall, so the best live sum over the best normaliser in reach is a sound bound.
// - N = batch_size * beam_size is fixed. A row without a live hypothesis gets pad_id as its
//   token and itself as its parent.
#pragma once

#include <cstdint>
#include <vector>

namespace seq2seq_ext {

enum class LengthPenalty { kNone, kPower, kGnmt };

struct BeamSearchOptions {
  int64_t beam_size;
  int64_t n_best;  // at most beam_size
  int64_t eos_id;
  int64_t pad_id;
  int64_t max_length;  // at least 1
  int64_t min_length;  // at most max_length
  LengthPenalty length_penalty;
  double alpha;
};

// Each row's best tokens, best first: [rows, width].
struct Candidates {
  const double* log_probs;
  const int64_t* tokens;
  int64_t width;
};

struct Hypothesis {
  std::vector<int64_t> tokens;
  double score;
  double log_prob;
};

class Sentence;

class BeamSearch {
 public:
  BeamSearch(int64_t batch_size, const BeamSearchOptions& options);
  ~BeamSearch();

  // One step. tokens and parents are [rows]; a parent is a row.
  void advance(const Candidates& candidates, int64_t* tokens, int64_t* parents);

  bool done() const;
  bool done(int64_t sentence) const;

  // Whether the next step reads the row.
  bool is_live(int64_t row) const;

  int64_t first_row(int64_t sentence) const { return sentence * options_.beam_size; }
  int64_t rows() const;
  int64_t batch_size() const;
  const BeamSearchOptions& options() const { return options_; }

  // How many candidates a row must offer, if its vocabulary has them: one can be EOS.
  int64_t width() const { return options_.beam_size + 1; }

  // At most n_best, the best first.
  std::vector<Hypothesis> hypotheses(int64_t sentence) const;

 private:
  BeamSearchOptions options_;
  std::vector<Sentence> sentences_;
};

}  // namespace seq2seq_ext
