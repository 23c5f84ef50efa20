// A beam: live hypotheses of one sentence that compete with each other, and a pool for those
// that have ended. A sentence without beam groups is one of them.
#pragma once

#include <cstdint>
#include <vector>

#include "logit_rules.h"
#include "pool.h"
#include "prefix_tree.h"

namespace seq2seq_ext {

// The rows of a beam in one step: [beams, width], each row's best candidates first.
struct GroupRows {
  int64_t first;  // the row of beam 0
  const double* log_probs;
  const int64_t* tokens;
  const double* perturbed;  // log-probs plus noise; read under Gumbel sampling only
  int64_t width;
  const double* attention;  // [beams, positions]; read where a coverage penalty asks for it
  int64_t positions;
};

struct Hypothesis {
  std::vector<int64_t> tokens;
  std::vector<double> token_log_probs;
  std::vector<int64_t> rows;  // of the logits that each token was chosen from
  double score;
  double log_prob;
  Reason reason;
};

class Group {
 public:
  Group(const SearchOptions& options, int64_t beams);

  bool done() const { return live_.empty(); }
  int64_t length() const { return length_; }
  bool is_live(int64_t beam) const;
  RulePrefix rule_prefix(int64_t beam) const;

  // One step. tokens and parents are those of this beam's rows; parents are beams. `used` are
  // the tokens that earlier groups took in this step; those of this one join them.
  void advance(const SearchOptions& options, const GroupRows& rows, std::vector<int64_t>* used,
               int64_t* tokens, int64_t* parents);

  // What is live ends as it is.
  void stop(const SearchOptions& options);

  std::vector<Hypothesis> ended() const;
  std::vector<Hypothesis> live(const SearchOptions& options) const;

 private:
  struct Live {
    int64_t node = PrefixTree::kRoot;
    int64_t length = 0;
    double sum = 0;
    double key = 0;          // what it was ranked by
    bool has_ended = false;  // and is carried
    bool is_spent = false;   // there is an EOS in it: nothing that goes on from it ends
    int64_t lane = 0;
    Progress progress;
    Coverage coverage;
  };
  struct Candidate {
    double key;
    double log_prob;
    int64_t beam;
    int64_t token;
  };
  // The next of a live hypothesis' candidates; a heap's first comes before all others.
  struct Head {
    Candidate candidate;
    int64_t rank;
    bool operator<(const Head& other) const {
      return candidate.key != other.candidate.key ? candidate.key < other.candidate.key
                                                  : candidate.beam > other.candidate.beam;
    }
  };
  struct Step {
    const SearchOptions& options;
    const GroupRows& rows;
    const std::vector<int64_t>& used;
    int64_t* tokens;
    int64_t* parents;
    std::vector<Coverage> coverage;              // of the children of each live hypothesis
    std::vector<std::vector<Candidate>> ranked;  // of each, where its row's order is not theirs
    std::vector<Live> survivors;
    int64_t met = 0;  // candidates that had a claim to a place
    int64_t ended = 0;
  };

  void grow_coverage(Step* step) const;
  bool needs_ranking(const Step& step) const;
  std::vector<Candidate> rank(const Step& step, int64_t beam) const;
  bool candidate(const Step& step, int64_t beam, int64_t rank, Candidate* found) const;
  bool ranked_candidate(const Step& step, int64_t beam, int64_t rank, Candidate* found) const;
  template <class Take>
  void walk(const Step& step, const Take& take);
  std::vector<Candidate> interleave_banks(const Step& step);
  void take_all(Step* step);
  bool take(Step* step, const Candidate& candidate);
  Live extend(const Step& step, const Candidate& candidate, bool ends);
  double score(const SearchOptions& options, const Live& live) const;
  void end(const SearchOptions& options, const Live& live, Reason reason);
  bool is_settled(const SearchOptions& options) const;
  double best_in_reach(const SearchOptions& options) const;
  Hypothesis hypothesis(int64_t node, double score, double sum, Reason reason) const;

  int64_t beams_;
  int64_t slots_;  // beams_, less those that Finished::kShrink has closed
  int64_t length_ = 0;
  bool best_ends_ = false;  // in this step
  bool best_has_ended_ = false;
  std::vector<bool> place_has_ended_;  // read under EarlyStopping::kPlaces
  std::vector<Live> live_;
  std::vector<Live> spare_;  // memory for the next step's
  std::vector<Head> heads_;  // of one walk
  Pool pool_;
  PrefixTree tree_;
};

}  // namespace seq2seq_ext
