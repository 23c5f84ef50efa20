#include "constraints.h"

#include <algorithm>
#include <queue>

namespace seq2seq_ext {

namespace {

// The node that a sequence leads to; missing ones are made on the way.
template <class Node, class Visit>
int64_t insert(std::vector<Node>& nodes, const std::vector<int64_t>& sequence, const Visit& visit) {
  int64_t node = 0;
  for (const int64_t token : sequence) {
    const auto found = nodes[node].children.find(token);
    int64_t child;
    if (found != nodes[node].children.end()) {
      child = found->second;
    } else {
      child = static_cast<int64_t>(nodes.size());
      nodes[node].children.emplace(token, child);
      nodes.emplace_back();
    }
    visit(node, child);
    node = child;
  }
  return node;
}

template <class Node>
int64_t largest_token_of(const std::vector<Node>& nodes) {
  int64_t largest = 0;
  for (const Node& node : nodes)
    if (!node.children.empty()) largest = std::max(largest, node.children.rbegin()->first);
  return largest;
}

}  // namespace

TokenTrie::TokenTrie(const std::vector<std::vector<int64_t>>& sequences) : nodes_(1) {
  for (const auto& sequence : sequences)
    nodes_[insert(nodes_, sequence, [](int64_t, int64_t) {})].is_end = true;
}

int64_t TokenTrie::next(int64_t node, int64_t token) const {
  const auto found = nodes_[node].children.find(token);
  return found == nodes_[node].children.end() ? kOutside : found->second;
}

int64_t TokenTrie::largest_token() const { return largest_token_of(nodes_); }

PhraseSet::PhraseSet(const std::vector<std::vector<int64_t>>& phrases) : nodes_(1) {
  for (size_t p = 0; p < phrases.size(); ++p) {
    const uint64_t bit = uint64_t{1} << p;
    all_ |= bit;
    lengths_.push_back(phrases[p].size());
    nodes_[kRoot].through |= bit;
    const int64_t end = insert(nodes_, phrases[p], [&](int64_t parent, int64_t child) {
      nodes_[child].depth = nodes_[parent].depth + 1;
      nodes_[child].through |= bit;
    });
    nodes_[end].ended |= bit;
  }
  // Breadth first: a fallback is shorter, so it is complete when it is needed.
  std::queue<int64_t> open({kRoot});
  for (; !open.empty(); open.pop()) {
    const int64_t node = open.front();
    for (const auto& [token, child] : nodes_[node].children) {
      if (node != kRoot) nodes_[child].fallback = next({nodes_[node].fallback, 0}, token).node;
      nodes_[child].ended |= nodes_[nodes_[child].fallback].ended;
      open.push(child);
    }
  }
}

PhraseSet::State PhraseSet::next(State state, int64_t token) const {
  int64_t node = state.node;
  for (;; node = nodes_[node].fallback) {
    const auto found = nodes_[node].children.find(token);
    if (found != nodes_[node].children.end()) {
      node = found->second;
      break;
    }
    if (node == kRoot) break;
  }
  return {node, state.met | nodes_[node].ended};
}

int64_t PhraseSet::progress(State state) const {
  int64_t total = 0;
  for (size_t p = 0; p < lengths_.size(); ++p)
    if (state.met >> p & 1) total += lengths_[p];
  int64_t node = state.node;
  while (node != kRoot && !(nodes_[node].through & ~state.met)) node = nodes_[node].fallback;
  return total + nodes_[node].depth;
}

int64_t PhraseSet::largest_token() const { return largest_token_of(nodes_); }

void PhraseSet::advancing(State state, std::vector<int64_t>* tokens) const {
  tokens->clear();
  for (int64_t node = state.node;; node = nodes_[node].fallback) {
    for (const auto& [token, child] : nodes_[node].children)
      if (nodes_[child].through & ~state.met) tokens->push_back(token);
    if (node == kRoot) break;
  }
  std::sort(tokens->begin(), tokens->end());
  tokens->erase(std::unique(tokens->begin(), tokens->end()), tokens->end());
}

}  // namespace seq2seq_ext
