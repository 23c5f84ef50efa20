// Log-sum-exp and top-k of a block of logits: one pass for maxima and top-k, one for the sum.
//
// Logits that don't exceed the worst of k tokens found before are skipped, a group of vectors at
// a time. Before k are found, the maxima of groups give a bound that at least k logits reach and
// few others do. What passes goes through a heap of the best k, so the result is exact whatever
// the bound.
#include "../topk.h"

#include "sum_exp.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

namespace {

template <typename T>
constexpr T kLowest = -T(__builtin_inf());

// The heap.
template <typename T>
class Best {
 public:
  Best(BestTokens<T>* best, int64_t k) : tokens_(best->tokens), count_(best->count), k_(k) {}

  bool is_full() const { return count_ == k_; }

  // What a logit must exceed; of equals the first stays, which has the lower id.
  T threshold() const { return is_full() ? tokens_[0].logit : kLowest<T>; }

  void offer(T logit, int64_t id) {
    if (!(logit > threshold())) return;
    if (!is_full())
      sift_up(count_++, {logit, id});
    else
      sift_down({logit, id});
  }

 private:
  static bool is_worse(const Token<T>& a, const Token<T>& b) {
    return a.logit < b.logit || (a.logit == b.logit && a.id > b.id);
  }

  void sift_up(int64_t i, Token<T> token) {
    for (; i > 0 && is_worse(token, tokens_[(i - 1) / 2]); i = (i - 1) / 2)
      tokens_[i] = tokens_[(i - 1) / 2];
    tokens_[i] = token;
  }

  // In place of the top.
  void sift_down(Token<T> token) {
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < count_; i = child) {
      if (child + 1 < count_ && is_worse(tokens_[child + 1], tokens_[child])) ++child;
      if (!is_worse(tokens_[child], token)) break;
      tokens_[i] = tokens_[child];
    }
    tokens_[i] = token;
  }

  Token<T>* const tokens_;
  int64_t& count_;
  const int64_t k_;
};

constexpr int kGroupVectors = 8;

// A block in groups of vectors, seen once; the last ones may be short.
template <typename T>
struct Groups {
  static constexpr int kLanes = Simd<T>::kLanes, kGroup = kGroupVectors * kLanes;

  const T* logits;
  int64_t size, count;
  T max;                               // of those that are no NaN
  Vec<T> maxima[kTopkBlock / kGroup];  // of each group, lane by lane

  Groups(const T* logits, int64_t n) : logits(logits), size(n), count((n + kGroup - 1) / kGroup) {
    Vec<T> all = broadcast(kLowest<T>);
    for (int64_t g = 0; g < count; ++g) {
      Vec<T> group = broadcast(kLowest<T>);
      for (int64_t i = g * kGroup; i < end(g); i += kLanes) {
        group = maximum(at(i), group);
      }
      maxima[g] = group;
      all = maximum(group, all);
    }
    max = reduce_max<T>(all);
  }

  int64_t end(int64_t group) const {
    return (group + 1) * kGroup < size ? (group + 1) * kGroup : size;
  }

  // A vector of logits, -inf where there are no more.
  Vec<T> at(int64_t i) const {
    return i + kLanes <= size ? load(logits + i)
                              : load_part(logits + i, size - i, broadcast(kLowest<T>));
  }

  // How many of the maxima reach a bound.
  int64_t reaching(T bound) const {
    auto negated = broadcast(bound) != broadcast(bound);
    for (int64_t g = 0; g < count; ++g) negated += maxima[g] >= bound;
    int64_t total = 0;
    for (int lane = 0; lane < kLanes; ++lane) total -= negated[lane];
    return total;
  }

  // A bound that at least k logits reach, and few more: k maxima do. By bisection, which needs
  // no order; where it does not get close, the heap filters on its own.
  T bound(int64_t k) const {
    constexpr int kHalvings = 5;
    T low = kLowest<T>, high = max;
    if (count * kLanes < k || !(max - max == 0)) return low;
    T width = 1;
    while (width < 1024 && reaching(high - width) < k) width *= 4;
    low = high - width;
    for (int i = 0; i < kHalvings && low < high; ++i) {
      const T middle = low + (high - low) / 2;
      if (reaching(middle) < k)
        high = middle;
      else
        low = middle;
    }
    return reaching(low) < k ? kLowest<T> : low;
  }

  void offer_to(Best<T>& best, T bound, int64_t first) const {
    for (int64_t g = 0; g < count; ++g) {
      if (!any(maxima[g] >= bound)) continue;
      for (int64_t i = g * kGroup; i < end(g); i += kLanes)
        for (uint32_t bits = lane_bits(at(i) >= bound); bits; bits &= bits - 1) {
          const int64_t place = i + __builtin_ctz(bits);
          if (place < size) best.offer(logits[place], first + place);
        }
    }
  }
};

// The best k go to best; returns the maximum, which skips NaN.
template <typename T>
T find_best(const T* logits, int64_t first, int64_t n, int64_t k, Best<T>& best) {
  const Groups<T> groups(logits, n);
  groups.offer_to(best, best.is_full() ? best.threshold() : groups.bound(k), first);
  return groups.max;
}

template <typename T>
bool has_nan(const T* logits, int64_t n) {
  bool found = false;
  for (int64_t i = 0; i < n; ++i) found |= logits[i] != logits[i];
  return found;
}

template <typename T>
void scan(const T* logits, int64_t first, int64_t n, int64_t k, BlockSum* sum,
          BestTokens<T>* best_tokens) {
  Best<T> best(best_tokens, k);
  const T max = find_best(logits, first, n, k, best);
  // A NaN shows in the sum; where there is none, it has to be looked for.
  const bool is_finite = max - max == 0;
  *sum = {is_finite || !has_nan(logits, n) ? max : T(__builtin_nan("")),
          is_finite ? sum_exp(logits, 0, n, max) : 0};
}

}  // namespace

template <typename T>
TopkKernels<T> topk_kernels() {
  return {scan<T>};
}

template TopkKernels<float> topk_kernels();
template TopkKernels<double> topk_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
