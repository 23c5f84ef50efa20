// Log-sum-exp and top-k of a stretch of logits: one pass from memory for the maximum and the
// best k, one from the cache for the sum.
//
// The k best so far are a heap whose top is the worst of them: the threshold. A block of
// vectors whose maximum does not exceed it is skipped at once, and soon nearly all are
// (k ln(n / k) of n random logits get through).
#include "../beam_search.h"

#include "simd.h"
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

template <typename T>
void offer_block(const T* logits, int64_t begin, Best<T>& best) {
  constexpr int kLanes = Simd<T>::kLanes;
  for (int64_t i = begin; i < begin + kBlockVectors * kLanes; i += kLanes) {
    if (!any(load(logits + i) > best.threshold())) continue;
    for (int lane = 0; lane < kLanes; ++lane) best.offer(logits[i + lane], i + lane);
  }
}

// The best k go to best; returns the maximum, or NaN if there is one.
template <typename T>
T find_best(const T* logits, int64_t begin, int64_t end, Best<T>& best) {
  constexpr int kLanes = Simd<T>::kLanes, kBlock = kBlockVectors * kLanes;
  Vec<T> maxima = broadcast(kLowest<T>);
  auto is_nan = maxima != maxima;
  int64_t i = begin;
  for (; i + kBlock <= end; i += kBlock) {
    Vec<T> block = broadcast(kLowest<T>);
    for (int v = 0; v < kBlockVectors; ++v) {
      const Vec<T> x = load(logits + i + v * kLanes);
      is_nan |= x != x;
      block = x > block ? x : block;
    }
    maxima = block > maxima ? block : maxima;
    if (any(block > best.threshold())) offer_block(logits, i, best);
  }
  T max = reduce_max<T>(maxima);
  bool found_nan = any(is_nan);
  for (; i < end; ++i) {
    found_nan |= logits[i] != logits[i];
    max = logits[i] > max ? logits[i] : max;
    best.offer(logits[i], i);
  }
  return found_nan ? T(__builtin_nan("")) : max;
}

// Sums in float64, so that float32 log-probs carry only their own rounding.
inline VecD widen(VecF x, int half) {
  typedef float Half __attribute__((vector_size(kVectorBytes / 2)));
  Half lanes;
  __builtin_memcpy(&lanes, reinterpret_cast<const char*>(&x) + half * sizeof(Half), sizeof(Half));
  return __builtin_convertvector(lanes, VecD);
}

inline VecD sum_halves(VecF x) { return widen(x, 0) + widen(x, 1); }
inline VecD sum_halves(VecD x) { return x; }

template <typename T>
double sum_exp(const T* logits, int64_t begin, int64_t end, T max) {
  constexpr int kLanes = Simd<T>::kLanes;
  VecD sum{};
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) sum += sum_halves(exp(load(logits + i) - max));
  if (i < end) {
    Vec<T> last = broadcast(kLowest<T>);
    for (int lane = 0; i + lane < end; ++lane) last[lane] = logits[i + lane];
    sum += sum_halves(exp(last - max));
  }
  return reduce_add<double>(sum);
}

template <typename T>
void scan(const T* logits, int64_t begin, int64_t end, int64_t k, RowPart<T>* part) {
  Best<T> best(part, k);
  const T max = find_best(logits, begin, end, best);
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
