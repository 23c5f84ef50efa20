// Which tokens a hypothesis may or must hold: tries and phrases. Immutable once built, so the
// sentences of a batch share them.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace seq2seq_ext {

// Sequences of which a hypothesis must be one, its EOS aside.
class TokenTrie {
 public:
  static constexpr int64_t kRoot = 0, kOutside = -1;

  explicit TokenTrie(const std::vector<std::vector<int64_t>>& sequences);

  // Where a token leads; kOutside where no sequence goes on like that.
  int64_t next(int64_t node, int64_t token) const;
  bool is_end(int64_t node) const { return nodes_[node].is_end; }
  const std::map<int64_t, int64_t>& children(int64_t node) const { return nodes_[node].children; }
  int64_t largest_token() const;

 private:
  struct Node {
    std::map<int64_t, int64_t> children;
    bool is_end = false;
  };
  std::vector<Node> nodes_;
};

// Phrases that must all appear, each in one piece: their automaton (Aho and Corasick 1975). At
// most 64, none empty.
class PhraseSet {
 public:
  static constexpr int64_t kRoot = 0;

  struct State {
    int64_t node = kRoot;  // the longest end of the hypothesis that begins a phrase
    uint64_t met = 0;      // a bit for each phrase that has appeared
  };

  explicit PhraseSet(const std::vector<std::vector<int64_t>>& phrases);

  State next(State state, int64_t token) const;
  bool is_met(State state) const { return state.met == all_; }

  // Tokens of the phrases met, and of the longest beginning of one that is not.
  int64_t progress(State state) const;

  // The tokens that carry a beginning of an unmet phrase on, the empty one included.
  void advancing(State state, std::vector<int64_t>* tokens) const;

  // At least as many as advancing() finds.
  int64_t max_advancing() const { return static_cast<int64_t>(nodes_.size()) - 1; }

  int64_t largest_token() const;

 private:
  struct Node {
    std::map<int64_t, int64_t> children;
    int64_t fallback = kRoot;  // the next shorter end that begins a phrase
    int64_t depth = 0;
    uint64_t through = 0;  // phrases that begin like this
    uint64_t ended = 0;    // phrases that end here, shorter ones too
  };
  std::vector<Node> nodes_;
  std::vector<int64_t> lengths_;
  uint64_t all_ = 0;
};

}  // namespace seq2seq_ext
