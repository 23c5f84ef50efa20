// The hypotheses of a beam that have ended.
#pragma once

#include <algorithm>
#include <vector>

#include "scoring.h"

namespace seq2seq_ext {

struct Ended {
  int64_t node;
  double sum;
  double score;
  Reason reason;
};

// The best `size` by (score desc, order of ending); or, closed when full, the first of them.
class Pool {
 public:
  Pool(int64_t size, bool full_is_closed) : size_(size), full_is_closed_(full_is_closed) {}

  void add(const Ended& ended) {
    ++offered_;
    if (full_is_closed_ && is_full()) return;
    const auto place =
        std::upper_bound(entries_.begin(), entries_.end(), ended,
                         [](const Ended& a, const Ended& b) { return a.score > b.score; });
    entries_.insert(place, ended);
    if (static_cast<int64_t>(entries_.size()) > size_) entries_.pop_back();
  }

  int64_t size() const { return size_; }
  bool is_full() const { return static_cast<int64_t>(entries_.size()) == size_; }
  bool is_empty() const { return entries_.empty(); }
  double worst() const { return entries_.back().score; }

  // How many have ended, those that the pool did not keep included.
  int64_t offered() const { return offered_; }

  const std::vector<Ended>& entries() const { return entries_; }

 private:
  int64_t size_;
  bool full_is_closed_;
  int64_t offered_ = 0;
  std::vector<Ended> entries_;
};

}  // namespace seq2seq_ext
