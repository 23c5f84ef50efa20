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
  void read_prefix(int64_t beam, RulePrefix* prefix) const;

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
    int64_t coverage = 0;  // its row of coverage_
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
  // A candidate, and when its bank offers it.
  struct Offer {
    int64_t turn, bank;
    Candidate candidate;
  };
  struct Step {
    const SearchOptions& options;
    const GroupRows& rows;
    const std::vector<int64_t>& used;
    int64_t* tokens;
    int64_t* parents;
    bool is_ranked;  // whether ranked_ is read
    std::vector<Live> survivors;
    int64_t met = 0;  // candidates that had a claim to a place
    int64_t ended = 0;
  };

  int64_t children_coverage(int64_t beam) const { return length_ % 2 * beams_ + beam; }
  const double* coverage(const SearchOptions& options, int64_t row) const {
    return coverage_.empty() ? nullptr : coverage_.data() + row * options.source_length;
  }
  void grow_coverage(const Step& step);
  bool needs_ranking(const Step& step) const;
  void rank(const Step& step, int64_t beam, std::vector<Candidate>* ranked) const;
  bool candidate(const Step& step, int64_t beam, int64_t rank, Candidate* found) const;
  bool ranked_candidate(const Step& step, int64_t beam, int64_t rank, Candidate* found) const;
  template <class Take>
  void walk(const Step& step, const Take& take);
  void interleave_banks(const Step& step);
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
  // [2 * beams, source_length] where a penalty asks for it: mass of attention that each position
  // has had; of those that came to live in even steps and in odd ones.
  std::vector<double> coverage_;
  // Memory of a step, kept for the next.
  std::vector<Live> spare_;
  std::vector<Head> heads_;                     // of one walk
  std::vector<std::vector<Candidate>> ranked_;  // of each beam, where its row's order is not theirs
  std::vector<Offer> offers_;
  std::vector<int64_t> turns_;  // of each bank
  Pool pool_;
  PrefixTree tree_;
};

}  // namespace seq2seq_ext
