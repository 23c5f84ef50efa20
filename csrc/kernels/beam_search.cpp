#include "beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>

namespace seq2seq_ext {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double normaliser(const BeamSearchOptions& options, int64_t length) {
  if (length == 0) return 1;
  switch (options.length_penalty) {
    case LengthPenalty::kPower:
      return std::pow(static_cast<double>(length), options.alpha);
    case LengthPenalty::kGnmt:
      return std::pow((5.0 + length) / 6.0, options.alpha);
    default:
      return 1;
  }
}

constexpr int64_t kRoot = -1;

// A token and the node of the prefix before it: all prefixes of a sentence are one tree.
struct Node {
  int64_t parent;
  int64_t token;
};

struct Live {
  int64_t node;
  double sum;
};

struct Ended {
  int64_t node;
  double sum;
  double score;
};

// The head of one live row's list of candidates.
struct Head {
  double sum;
  int64_t beam;
  int64_t rank;

  // For a queue whose top is the first in the order of candidates. The rank within a row needs
  // no comparison: only one head of a row is in the queue.
  bool operator<(const Head& other) const {
    return sum != other.sum ? sum < other.sum : beam > other.beam;
  }
};

}  // namespace

class Sentence {
 public:
  explicit Sentence(const BeamSearchOptions& options) : options_(options), live_{{kRoot, 0}} {}

  bool done() const { return live_.empty(); }
  int64_t live() const { return live_.size(); }

  // Candidates of this sentence's rows; tokens and parents of its rows, parents as beams.
  void advance(const Candidates& candidates, int64_t* tokens, int64_t* parents) {
    ++length_;
    std::vector<Live> survivors;
    walk(candidates, [&](const Head& head, int64_t token) {
      const int64_t beam = survivors.size();
      const bool ends = token == options_.eos_id;
      if (ends && length_ < options_.min_length) return true;
      const Live extended{extend(live_[head.beam].node, token), head.sum};
      if (ends || length_ == options_.max_length) end(extended, length_);
      if (ends) return true;
      survivors.push_back(extended);
      tokens[beam] = token;
      parents[beam] = head.beam;
      return beam + 1 < options_.beam_size;
    });
    if (survivors.empty() && pool_.empty())
      for (const Live& dying : live_) end(dying, length_ - 1);
    live_ = std::move(survivors);
    if (length_ == options_.max_length || is_settled()) live_.clear();
    for (int64_t beam = live_.size(); beam < options_.beam_size; ++beam) {
      tokens[beam] = options_.pad_id;
      parents[beam] = beam;
    }
  }

  std::vector<Hypothesis> hypotheses() const {
    std::vector<Hypothesis> result;
    for (const Ended& ended : pool_) {
      if (static_cast<int64_t>(result.size()) == options_.n_best) break;
      result.push_back({path_to(ended.node), ended.score, ended.sum});
    }
    return result;
  }

 private:
  // Calls take(head, token) on the candidates in their order until it returns false.
  template <class Take>
  void walk(const Candidates& candidates, const Take& take) const {
    std::priority_queue<Head> heads;
    const auto push = [&](int64_t beam, int64_t rank) {
      if (rank == candidates.width) return;
      const double log_prob = candidates.log_probs[beam * candidates.width + rank];
      const double sum = live_[beam].sum + std::min(log_prob, 0.0);  // a NaN stays one
      if (sum > -kInfinity) heads.push({sum, beam, rank});
    };
    for (size_t beam = 0; beam < live_.size(); ++beam) push(beam, 0);
    while (!heads.empty()) {
      const Head head = heads.top();
      heads.pop();
      if (!take(head, candidates.tokens[head.beam * candidates.width + head.rank])) return;
      push(head.beam, head.rank + 1);
    }
  }

  int64_t extend(int64_t parent, int64_t token) {
    nodes_.push_back({parent, token});
    return static_cast<int64_t>(nodes_.size()) - 1;
  }

  std::vector<int64_t> path_to(int64_t node) const {
    std::vector<int64_t> tokens;
    for (; node != kRoot; node = nodes_[node].parent) tokens.push_back(nodes_[node].token);
    std::reverse(tokens.begin(), tokens.end());
    return tokens;
  }

  // Into the pool, behind its equals: they ended earlier.
  void end(const Live& live, int64_t length) {
    const Ended ended{live.node, live.sum, live.sum / normaliser(options_, length)};
    const auto place =
        std::upper_bound(pool_.begin(), pool_.end(), ended,
                         [](const Ended& a, const Ended& b) { return a.score > b.score; });
    pool_.insert(place, ended);
    if (static_cast<int64_t>(pool_.size()) > options_.beam_size) pool_.pop_back();
  }

  // Whether no live hypothesis can still enter the pool. Live ones are sorted by their sums,
  // and normalisers are monotone in the length, so the best is at an end of what is in reach.
  bool is_settled() const {
    if (live_.empty()) return true;
    if (static_cast<int64_t>(pool_.size()) < options_.beam_size) return false;
    const double best =
        std::max(normaliser(options_, length_ + 1), normaliser(options_, options_.max_length));
    return live_.front().sum / best <= pool_.back().score;
  }

  BeamSearchOptions options_;
  int64_t length_ = 0;  // of the live hypotheses
  std::vector<Live> live_;
  std::vector<Ended> pool_;
  std::vector<Node> nodes_;
};

BeamSearch::BeamSearch(int64_t batch_size, const BeamSearchOptions& options)
    : options_(options), sentences_(batch_size, Sentence(options)) {}

BeamSearch::~BeamSearch() = default;

void BeamSearch::advance(const Candidates& candidates, int64_t* tokens, int64_t* parents) {
  const int64_t beams = options_.beam_size;
  for (size_t s = 0; s < sentences_.size(); ++s) {
    const int64_t row = s * beams, offset = row * candidates.width;
    if (sentences_[s].done()) {
      std::fill_n(tokens + row, beams, options_.pad_id);
      for (int64_t beam = 0; beam < beams; ++beam) parents[row + beam] = row + beam;
      continue;
    }
    sentences_[s].advance(
        {candidates.log_probs + offset, candidates.tokens + offset, candidates.width}, tokens + row,
        parents + row);
    for (int64_t beam = 0; beam < beams; ++beam) parents[row + beam] += row;
  }
}

bool BeamSearch::done() const {
  return std::all_of(sentences_.begin(), sentences_.end(),
                     [](const Sentence& sentence) { return sentence.done(); });
}

bool BeamSearch::done(int64_t sentence) const { return sentences_[sentence].done(); }

bool BeamSearch::is_live(int64_t row) const {
  return row % options_.beam_size < sentences_[row / options_.beam_size].live();
}

int64_t BeamSearch::rows() const { return batch_size() * options_.beam_size; }

int64_t BeamSearch::batch_size() const { return sentences_.size(); }

std::vector<Hypothesis> BeamSearch::hypotheses(int64_t sentence) const {
  return sentences_[sentence].hypotheses();
}

}  // namespace seq2seq_ext
