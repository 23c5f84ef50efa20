// Log-sum-exp and top-k of a stretch of logits: one pass from memory for maxima and top-k, one
// from the cache for the sum.
//
// The maxima of small groups of logits give a bound that at least k logits reach and few others
// do. Blocks that do not reach it are skipped at once; what does goes through a heap of the
// best k, so the result is exact whatever the bound.
#include "../beam_search.h"

#include "sum_exp.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

namespace {

template <typename T>
constexpr T kLowest = -T(__builtin_inf());

// Is any lane of a comparison true?
template <typename Mask>
inline bool any(Mask mask) {
  typedef int64_t Words __attribute__((vector_size(kVectorBytes)));
  const Words words = (Words)mask;
  int64_t bits = 0;
  for (int i = 0; i < kVectorBytes / 8; ++i) bits |= words[i];
  return bits != 0;
}

// The best k of what was offered in the order of tokens: a heap over part's own arrays.
template <typename T>
class Best {
 public:
  Best(RowPart<T>* part, int64_t k) : part_(*part), k_(k) { part_.count = 0; }

  // What a logit must exceed; of equals the first stays, which has the lower token.
  T threshold() const { return part_.count < k_ ? kLowest<T> : part_.logits[0]; }

  void offer(T logit, int64_t token) {
    if (!(logit > threshold())) return;
    if (part_.count < k_)
      sift_up(part_.count++, logit, token);
    else
      sift_down(k_, logit, token);
  }

  // Heap to list, best first.
  void sort() {
    for (int64_t last = part_.count - 1; last > 0; --last) {
      const T logit = part_.logits[last];
      const int64_t token = part_.tokens[last];
      put(last, part_.logits[0], part_.tokens[0]);
      sift_down(last, logit, token);
    }
  }

 private:
  bool is_worse(int64_t i, T logit, int64_t token) const {
    const T other = part_.logits[i];
    return other < logit || (other == logit && part_.tokens[i] > token);
  }

  void put(int64_t i, T logit, int64_t token) {
    part_.logits[i] = logit;
    part_.tokens[i] = token;
  }

  void move(int64_t to, int64_t from) { put(to, part_.logits[from], part_.tokens[from]); }

  void sift_up(int64_t i, T logit, int64_t token) {
    for (; i > 0 && !is_worse((i - 1) / 2, logit, token); i = (i - 1) / 2) move(i, (i - 1) / 2);
    put(i, logit, token);
  }

  // From the top of a heap of n.
  void sift_down(int64_t n, T logit, int64_t token) {
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
      if (child + 1 < n && is_worse(child + 1, part_.logits[child], part_.tokens[child])) ++child;
      if (!is_worse(child, logit, token)) break;
      move(i, child);
    }
    put(i, logit, token);
  }

  RowPart<T>& part_;
  const int64_t k_;
};

constexpr int kBlockVectors = 8;

// The whole blocks of a stretch, seen once.
template <typename T>
struct Blocks {
  static constexpr int kLanes = Simd<T>::kLanes, kBlock = kBlockVectors * kLanes;

  const T* logits;
  int64_t begin, count;
  T max;
  bool has_nan;
  Vec<T> maxima[kScanLogits / kBlock];  // of each block, lane by lane

  Blocks(const T* logits, int64_t begin, int64_t end)
      : logits(logits), begin(begin), count((end - begin) / kBlock) {
    Vec<T> all = broadcast(kLowest<T>);
    auto is_nan = all != all;
    for (int64_t b = 0; b < count; ++b) {
      Vec<T> block = broadcast(kLowest<T>);
      for (int v = 0; v < kBlockVectors; ++v) {
        const Vec<T> x = load(logits + begin + b * kBlock + v * kLanes);
        is_nan |= x != x;
        block = x > block ? x : block;
      }
      maxima[b] = block;
      all = block > all ? block : all;
    }
    max = reduce_max<T>(all);
    has_nan = any(is_nan);
  }

  // How many of the maxima reach a bound.
  int64_t reaching(T bound) const {
    auto negated = broadcast(bound) != broadcast(bound);
    for (int64_t b = 0; b < count; ++b) negated += maxima[b] >= bound;
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

  void offer_to(Best<T>& best, T bound) const {
    for (int64_t b = 0; b < count; ++b) {
      if (!any(maxima[b] >= bound)) continue;
      const int64_t block = begin + b * kBlock;
      for (int64_t i = block; i < block + kBlock; i += kLanes) {
        if (!any(load(logits + i) >= bound)) continue;
        for (int lane = 0; lane < kLanes; ++lane)
          if (logits[i + lane] >= bound) best.offer(logits[i + lane], i + lane);
      }
    }
  }

  int64_t end() const { return begin + count * kBlock; }
};

// The best k go to best; returns the maximum, or NaN if there is one.
template <typename T>
T find_best(const T* logits, int64_t begin, int64_t end, int64_t k, Best<T>& best) {
  const Blocks<T> blocks(logits, begin, end);
  blocks.offer_to(best, blocks.bound(k));
  T max = blocks.max;
  bool has_nan = blocks.has_nan;
  for (int64_t i = blocks.end(); i < end; ++i) {
    has_nan |= logits[i] != logits[i];
    max = logits[i] > max ? logits[i] : max;
    best.offer(logits[i], i);
  }
  return has_nan ? T(__builtin_nan("")) : max;
}

template <typename T>
void scan(const T* logits, int64_t begin, int64_t end, int64_t k, RowPart<T>* part) {
  Best<T> best(part, k);
  const T max = find_best(logits, begin, end, k, best);
  best.sort();
  part->max = max;
  part->taken = 0;
  const bool is_finite = max - max == 0;
  part->sum = is_finite ? sum_exp(logits, begin, end, max) : 0;
}

}  // namespace

template <typename T>
BeamSearchKernels<T> beam_search_kernels() {
  return {scan<T>};
}

template BeamSearchKernels<float> beam_search_kernels();
template BeamSearchKernels<double> beam_search_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
