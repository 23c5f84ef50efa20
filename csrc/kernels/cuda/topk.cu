// Both stages choose the best k one after the other: each round every thread looks for its best
// token behind the last chosen one, and the block compares. No list can overflow, whatever the
// logits; what is read again lies in the L1 cache.
#include "device.cuh"
#include "topk.h"

namespace seq2seq_ext::cuda {

namespace {

template <typename A>
__device__ bool is_better(const Token<A>& a, const Token<A>& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// Behind, and before, every token.
template <typename A>
__device__ Token<A> last_token() {
  return {-static_cast<A>(INFINITY), INT64_MAX};
}
template <typename A>
__device__ Token<A> first_token() {
  return {static_cast<A>(INFINITY), -1};
}

// The best of all threads' tokens, for all of them. slots: of the block, one a warp; to be used
// again only after another meeting of the block.
template <int kWarps, typename A>
__device__ Token<A> block_best(Token<A> token, Token<A>* slots) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const Token<A> other{shuffle_xor(token.logit, mask), shuffle_xor(token.id, mask)};
    if (is_better(other, token)) token = other;
  }
  if (lane_index() == 0) slots[warp_index()] = token;
  sync_block();
  token = slots[0];
  for (int w = 1; w < kWarps; ++w)
    if (is_better(slots[w], token)) token = slots[w];
  return token;
}

template <typename T>
struct PartKernel {
  static constexpr int kThreads = 128, kBlocksPerSm = 8, kWarps = kThreads / kWarp;
  TopkRows<T> in;
  int64_t parts, offers;

  struct Shared {
    Token<Acc<T>> best[2][kWarps];
    Acc<T> max[kWarps];
    int has_nan[kWarps];
    double sum[kWarps];
  };

  __device__ void operator()(char* shared_bytes) const {
    using A = Acc<T>;
    Shared& shared = *reinterpret_cast<Shared*>(shared_bytes);
    const int64_t size = divide_up(in.vocabulary, parts);
    const int64_t row = block_index() / parts, begin = block_index() % parts * size;
    const int64_t end = smaller(begin + size, in.vocabulary);
    const T* const logits = in.logits + row * in.stride;
    sum_part(logits, begin, end, shared);
    Token<A> last = first_token<A>();
    for (int64_t i = 0; i < offers; ++i) {
      Token<A> best = last_token<A>();
      for (int64_t id = begin + thread_index(); id < end; id += kThreads) {
        const Token<A> token{to_acc(logits[id]), id};
        if (is_better(last, token) && is_better(token, best)) best = token;
      }
      last = block_best<kWarps>(best, shared.best[i % 2]);
      if (thread_index() == 0) in.offers[block_index() * offers + i] = last;
    }
  }

 private:
  __device__ void sum_part(const T* logits, int64_t begin, int64_t end, Shared& shared) const {
    using A = Acc<T>;
    A max = -static_cast<A>(INFINITY);
    int has_nan = 0;
    for (int64_t id = begin + thread_index(); id < end; id += kThreads) {
      const A logit = to_acc(logits[id]);
      has_nan |= logit != logit;
      max = logit > max ? logit : max;
    }
    max = warp_max(max);
    has_nan = warp_max(has_nan);
    if (lane_index() == 0) shared.max[warp_index()] = max, shared.has_nan[warp_index()] = has_nan;
    sync_block();
    for (int w = 0; w < kWarps; ++w) {
      max = shared.max[w] > max ? shared.max[w] : max;
      has_nan |= shared.has_nan[w];
    }
    double sum = 0;
    if (max - max == 0)
      for (int64_t id = begin + thread_index(); id < end; id += kThreads)
        sum += exp(to_acc(logits[id]) - max);
    sum = warp_sum(sum);
    if (lane_index() == 0) shared.sum[warp_index()] = sum;
    sync_block();
    if (thread_index() != 0) return;
    for (int w = 1; w < kWarps; ++w) sum += shared.sum[w];
    in.sums[block_index()] = {has_nan ? static_cast<double>(NAN) : static_cast<double>(max), sum};
  }
};

// A thread for each part: the head of its list.
template <typename T>
struct RowKernel {
  static constexpr int kThreads = kMostTopkParts, kBlocksPerSm = 8, kWarps = kThreads / kWarp;
  TopkRows<T> in;
  int64_t parts, offers;

  struct Shared {
    Token<Acc<T>> best[2][kWarps];
    double max[kThreads], sum[kThreads];
  };

  __device__ void operator()(char* shared_bytes) const {
    using A = Acc<T>;
    Shared& shared = *reinterpret_cast<Shared*>(shared_bytes);
    const int64_t row = block_index(), part = thread_index();
    const double lse = log_sum_exp(shared);
    T* const log_probs = in.log_probs + row * in.k;
    int64_t* const tokens = in.tokens + row * in.k;
    if (!(lse - lse == 0)) {
      for (int64_t i = part; i < in.k; i += kThreads) {
        log_probs[i] = from_acc<T>(-static_cast<A>(INFINITY));
        tokens[i] = i;
      }
      return;
    }
    const Token<A>* const list = in.offers + (row * parts + part) * offers;
    int64_t head = 0;
    for (int64_t i = 0; i < in.k; ++i) {
      const bool has = part < parts && head < offers;
      const Token<A> best =
          block_best<kWarps>(has ? list[head] : last_token<A>(), shared.best[i % 2]);
      if (has && list[head].id == best.id) ++head;
      if (part != 0) continue;
      const double log_prob = static_cast<double>(best.logit) - lse;
      log_probs[i] = from_acc<T>(static_cast<A>(log_prob < 0 ? log_prob : 0));
      tokens[i] = best.id;
    }
  }

 private:
  // NaN where a part has one.
  __device__ double log_sum_exp(Shared& shared) const {
    const int64_t part = thread_index();
    const BlockSum none{-static_cast<double>(INFINITY), 0};
    const BlockSum own = part < parts ? in.sums[block_index() * parts + part] : none;
    shared.max[part] = own.max;
    sync_block();
    double max = -static_cast<double>(INFINITY);
    for (int64_t p = 0; p < parts; ++p) {
      const double other = shared.max[p];
      if (other != other) return other;
      max = other > max ? other : max;
    }
    shared.sum[part] = own.max - own.max == 0 ? own.sum_exp * exp(own.max - max) : 0;
    sync_block();
    if (!(max - max == 0)) return max;
    double sum = 0;
    for (int64_t p = 0; p < parts; ++p) sum += shared.sum[p];
    return max + log(sum);
  }
};

}  // namespace

template <typename T>
void log_softmax_topk(const TopkRows<T>& in, Stream stream) {
  const int64_t parts = topk_parts(in.vocabulary), offers = topk_offers(in.vocabulary, in.k);
  launch(PartKernel<T>{in, parts, offers}, in.rows * parts, sizeof(typename PartKernel<T>::Shared),
         stream);
  launch(RowKernel<T>{in, parts, offers}, in.rows, sizeof(typename RowKernel<T>::Shared), stream);
}

template void log_softmax_topk(const TopkRows<float>&, Stream);
template void log_softmax_topk(const TopkRows<double>&, Stream);
template void log_softmax_topk(const TopkRows<Bfloat16>&, Stream);
template void log_softmax_topk(const TopkRows<Float16>&, Stream);

}  // namespace seq2seq_ext::cuda
