// All prefixes of a beam are one tree: a token, how it was found, and the node before it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace seq2seq_ext {

class PrefixTree {
 public:
  static constexpr int64_t kRoot = -1;

  struct Node {
    int64_t parent;
    int64_t token;
    int64_t row;  // of the logits that it was chosen from
    double log_prob;
  };

  int64_t extend(const Node& node) {
    nodes_.push_back(node);
    return static_cast<int64_t>(nodes_.size()) - 1;
  }

  void tokens_to(int64_t node, std::vector<int64_t>* tokens) const {
    tokens->clear();
    for (; node != kRoot; node = nodes_[node].parent) tokens->push_back(nodes_[node].token);
    std::reverse(tokens->begin(), tokens->end());
  }

  std::vector<Node> path_to(int64_t node) const {
    std::vector<Node> path;
    for (; node != kRoot; node = nodes_[node].parent) path.push_back(nodes_[node]);
    std::reverse(path.begin(), path.end());
    return path;
  }

 private:
  std::vector<Node> nodes_;
};

}  // namespace seq2seq_ext
