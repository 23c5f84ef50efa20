// First stage: four lanes read a block of logits from shared memory, sum it and choose its best
// tokens one after the other; no list can overflow, whatever the logits. Second stage: a block of
// threads chooses among the heads of a row's lists in the same way.
#include "gemm_tile.cuh"
#include "topk.h"

namespace seq2seq_ext::cuda {

namespace {

template <typename A>
__device__ bool is_better(const Token<A>& a, const Token<A>& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

template <typename A>
constexpr A kNothing = -static_cast<A>(INFINITY);

// Behind, and before, every token.
template <typename A>
__device__ Token<A> last_token() {
  return {kNothing<A>, INT64_MAX};
}
template <typename A>
__device__ Token<A> first_token() {
  return {static_cast<A>(INFINITY), -1};
}

template <typename A>
__device__ Token<A> better_of_lanes(Token<A> token, int lanes) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) {
    const Token<A> other{shuffle_xor(token.logit, mask), shuffle_xor(token.id, mask)};
    if (is_better(other, token)) token = other;
  }
  return token;
}

constexpr int kScanLanes = 4, kLaneLogits = kScanned / kScanLanes;

// Where logit i lies in shared memory: a word is left out behind what a lane reads, so that lanes
// read from different banks.
template <typename T>
__host__ __device__ constexpr int64_t scan_place(int64_t i) {
  constexpr int64_t kWord = sizeof(T) < 4 ? 4 / sizeof(T) : 1;
  return i + i / kLaneLogits * kWord;
}

// What TopkRules say of one row.
template <typename A>
struct RowRules {
  A temperature, penalty;
  const int64_t *seen, *listed;

  // Of the tokens from `first` on.
  __device__ void adjust(A (&logits)[kLaneLogits], int64_t first) const {
    if (temperature != 1)
#pragma unroll
      for (int i = 0; i < kLaneLogits; ++i) logits[i] /= temperature;
    uint32_t is_seen = 0;
    for (int64_t i = seen ? *seen : 0; i > 0; --i) {
      const int64_t place = seen[i] - first;
      if (place >= 0 && place < kLaneLogits) is_seen |= 1u << place;
    }
#pragma unroll
    for (int i = 0; i < kLaneLogits; ++i)
      if (is_seen >> i & 1) logits[i] = logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty;
  }

  __device__ int64_t bans() const { return listed && *listed > 0 ? *listed : 0; }
  __device__ bool keeps_few() const { return listed && *listed < 0; }
  __device__ bool keeps(int64_t token) const {
    for (int64_t i = 1; i <= -*listed; ++i)
      if (listed[i] == token) return true;
    return false;
  }
};

// Where the results of a block go.
template <typename A>
struct ScanResult {
  BlockSum* sum;
  Token<A>* offers;
};

// Reads a block of n logits, of the tokens from first_id on; `begin` is its place among those in
// shared memory. All lanes of a warp call, four for each block; those without a block with n = 0.
// Behind the end of a row there is nothing, and its ids come behind all that there are.
template <typename T>
__device__ void scan_block(const T* shared, int64_t begin, int64_t n, int64_t first_id,
                           int64_t offers, const RowRules<Acc<T>>& rules,
                           const ScanResult<Acc<T>>& out) {
  using A = Acc<T>;
  const int lane = lane_index() % kScanLanes;
  const int64_t skipped = lane * kLaneLogits;
  A logits[kLaneLogits], max = kNothing<A>;
  int has_nan = 0;
#pragma unroll
  for (int i = 0; i < kLaneLogits; ++i)
    logits[i] = skipped + i < n ? to_acc(shared[scan_place<T>(begin + skipped + i)]) : kNothing<A>;
  rules.adjust(logits, first_id + skipped);
#pragma unroll
  for (int i = 0; i < kLaneLogits; ++i) {
    has_nan |= logits[i] != logits[i];
    max = logits[i] > max ? logits[i] : max;
  }
#pragma unroll
  for (int mask = kScanLanes / 2; mask > 0; mask /= 2) {
    const A other = shuffle_xor(max, mask);
    max = other > max ? other : max;
    has_nan |= shuffle_xor(has_nan, mask);
  }
  double sum = 0;
  if (max - max == 0)
#pragma unroll
    for (int i = 0; i < kLaneLogits; ++i) sum += exp(logits[i] - max);
#pragma unroll
  for (int mask = kScanLanes / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  if (lane == 0 && n > 0)
    *out.sum = {has_nan ? static_cast<double>(NAN) : static_cast<double>(max), sum};
  for (int64_t b = rules.bans(); b > 0; --b)
#pragma unroll
    for (int i = 0; i < kLaneLogits; ++i)
      if (first_id + skipped + i == rules.listed[b]) logits[i] = kNothing<A>;
  if (rules.keeps_few())
#pragma unroll
    for (int i = 0; i < kLaneLogits; ++i)
      if (!rules.keeps(first_id + skipped + i)) logits[i] = kNothing<A>;
  Token<A> last = first_token<A>();
  for (int64_t i = 0; i < offers; ++i) {
    Token<A> best = last_token<A>();
#pragma unroll
    for (int j = 0; j < kLaneLogits; ++j) {
      const Token<A> token{logits[j], first_id + skipped + j};
      if (is_better(last, token) && is_better(token, best)) best = token;
    }
    last = better_of_lanes(best, kScanLanes);
    if (lane == 0 && n > 0) out.offers[i] = last;
  }
}

// What both kernels of the first stage know of the second.
template <typename T>
struct Scan {
  TopkRows<T> rows;
  int64_t lists, offers;

  explicit Scan(const TopkRows<T>& in)
      : rows(in), lists(topk_lists(in.vocabulary)), offers(topk_offers(in.k)) {}

  // The block at place `begin` in shared memory, of a row's list; n = 0 where there is none.
  __device__ void run(const T* shared, int64_t begin, int64_t row, int64_t list) const {
    const int64_t first = list * kScanned, left = rows.vocabulary - first;
    const int64_t n = row >= rows.rows || left < 0 ? 0 : smaller(kScanned, left);
    const int64_t place = row * lists + list;
    const TopkRules<Acc<T>>& told = rows.rules;
    const auto list_of_row = [&](const int64_t* lists, int64_t row_stride) {
      return lists && n > 0 ? lists + row * row_stride : nullptr;
    };
    scan_block<T>(shared, begin, n, first, offers,
                  {told.temperature, told.penalty, list_of_row(told.seen, told.seen_stride),
                   list_of_row(told.listed, told.listed_stride)},
                  {rows.sums + place, rows.offers + place * offers});
  }
};

// A part of a row of logits.
template <typename T>
struct PartKernel {
  // Four blocks leave 128 registers a thread; lanes that hold doubles need more.
  static constexpr int kThreads = 128, kBlocksPerSm = sizeof(T) == 8 ? 2 : 4;
  static constexpr int64_t kLists = kThreads / kScanLanes, kSize = kLists * kScanned;
  static constexpr int64_t kShared = scan_place<T>(kSize) * sizeof(T);
  Scan<T> scan;
  const T* logits;
  int64_t stride, parts;

  __device__ void operator()(char* shared_bytes) const {
    T* const shared = reinterpret_cast<T*>(shared_bytes);
    const int64_t row = block_index() / parts, part = block_index() % parts;
    const int64_t first = part * kSize, n = smaller(kSize, scan.rows.vocabulary - first);
    for (int64_t i = thread_index(); i < n; i += kThreads)
      shared[scan_place<T>(i)] = logits[row * stride + first + i];
    sync_block();
    const int64_t list = thread_index() / kScanLanes;
    scan.run(shared, list * kScanned, row, part * kLists + list);
  }
};

// A tile of the product, read where it was made.
template <class Math>
struct TileKernel {
  using T = typename Math::Value;
  using Tile = GemmTile<Math>;
  // Two blocks leave 128 registers a thread; the sums of double need more.
  static constexpr int kThreads = kGemmThreads, kBlocksPerSm = sizeof(T) == 8 ? 1 : 2;
  static constexpr int kStride = scan_place<T>(Tile::kColumns);  // of a row of the tile
  static constexpr int64_t kLogits = scan_place<T>(Tile::kRows * Tile::kColumns) * sizeof(T);
  static constexpr int64_t kShared = kLogits > Tile::kShared ? kLogits : Tile::kShared;
  Scan<T> scan;
  Gemm<T> product;
  bool aligned;

  __device__ void operator()(char* shared_bytes) const {
    T* const shared = reinterpret_cast<T*>(shared_bytes);
    const int64_t tiles = divide_up(product.rows, Tile::kRows);
    const int64_t row = block_index() % tiles * Tile::kRows;
    const int64_t column = block_index() / tiles * Tile::kColumns;
    Tile tile(product, aligned, row, column, shared_bytes);
    tile.multiply();
    const int columns = smaller(product.columns - column, Tile::kColumns);
    const Acc<T>* const bias = product.bias ? product.bias + column : nullptr;
    tile.for_each([&](int r, int j, Acc<T> sum) {
      if (bias && j < columns) sum += bias[j];
      shared[r * kStride + static_cast<int>(scan_place<T>(j))] = from_acc<T>(sum);
    });
    sync_block();
    constexpr int kLists = Tile::kColumns / kScanned;
#pragma unroll 1
    for (int i = thread_index() / kScanLanes; i < Tile::kRows * kLists; i += kThreads / kScanLanes)
      scan.run(shared, i * kScanned, row + i / kLists, column / kScanned + i % kLists);
  }
};

// The best of all threads' tokens, for all of them. slots: of the block, one a warp; to be used
// again only after another meeting of the block.
template <int kWarps, typename A>
__device__ Token<A> block_best(Token<A> token, Token<A>* slots) {
  token = better_of_lanes(token, kWarp);
  if (lane_index() == 0) slots[warp_index()] = token;
  sync_block();
  token = slots[0];
  for (int w = 1; w < kWarps; ++w)
    if (is_better(slots[w], token)) token = slots[w];
  return token;
}

// A thread has some of the row's lists, and holds the best token of theirs that is left.
template <typename T>
struct RowKernel {
  static constexpr int kThreads = 128, kBlocksPerSm = 8, kWarps = kThreads / kWarp;
  Scan<T> scan;

  struct Shared {
    Token<Acc<T>> best[2][kWarps];
    double max[kThreads], sum[kThreads];
  };

  __device__ void operator()(char* shared_bytes) const {
    using A = Acc<T>;
    Shared& shared = *reinterpret_cast<Shared*>(shared_bytes);
    const int64_t row = block_index(), k = scan.rows.k;
    const double lse = log_sum_exp(scan.rows.sums + row * scan.lists, shared);
    A* const log_probs = scan.rows.log_probs + row * k;
    int64_t* const tokens = scan.rows.tokens + row * k;
    if (!(lse - lse == 0)) {
      for (int64_t i = thread_index(); i < k; i += kThreads) {
        log_probs[i] = kNothing<A>;
        tokens[i] = i;
      }
      return;
    }
    Token<A> own = best_behind(first_token<A>());
    for (int64_t i = 0; i < k; ++i) {
      const Token<A> best = block_best<kWarps>(own, shared.best[i % 2]);
      if (own.id == best.id) own = best_behind(best);
      if (thread_index() != 0) continue;
      const double log_prob = static_cast<double>(best.logit) - lse;
      log_probs[i] = static_cast<A>(log_prob < 0 ? log_prob : 0);
      tokens[i] = best.id;
    }
  }

 private:
  __device__ Token<Acc<T>> best_behind(const Token<Acc<T>>& last) const {
    Token<Acc<T>> best = last_token<Acc<T>>();
    for (int64_t list = thread_index(); list < scan.lists; list += kThreads) {
      const Token<Acc<T>>* const offers =
          scan.rows.offers + (block_index() * scan.lists + list) * scan.offers;
      int64_t i = 0;
      while (i < scan.offers && !is_better(last, offers[i])) ++i;
      if (i < scan.offers && is_better(offers[i], best)) best = offers[i];
    }
    return best;
  }

  __device__ static double larger_or_nan(double a, double b) { return a != a || a >= b ? a : b; }

  // NaN where a block has one.
  __device__ double log_sum_exp(const BlockSum* sums, Shared& shared) const {
    double max = kNothing<double>;
    for (int64_t i = thread_index(); i < scan.lists; i += kThreads)
      max = larger_or_nan(max, sums[i].max);
    shared.max[thread_index()] = max;
    sync_block();
    for (int t = 0; t < kThreads; ++t) max = larger_or_nan(max, shared.max[t]);
    double sum = 0;
    for (int64_t i = thread_index(); i < scan.lists; i += kThreads)
      if (sums[i].max > kNothing<double>) sum += sums[i].sum_exp * exp(sums[i].max - max);
    shared.sum[thread_index()] = sum;
    sync_block();
    if (!(max - max == 0)) return max;
    sum = 0;
    for (int t = 0; t < kThreads; ++t) sum += shared.sum[t];
    return max + log(sum);
  }
};

template <typename T>
void finish_rows(const TopkRows<T>& in, Stream stream) {
  launch(RowKernel<T>{Scan<T>(in)}, in.rows, sizeof(typename RowKernel<T>::Shared), stream);
}

}  // namespace

template <typename T>
void log_softmax_topk(const TopkRows<T>& in, const T* logits, int64_t stride, Stream stream) {
  using Kernel = PartKernel<T>;
  const int64_t parts = divide_up(in.vocabulary, Kernel::kSize);
  launch(Kernel{Scan<T>(in), logits, stride, parts}, in.rows * parts, Kernel::kShared, stream);
  finish_rows(in, stream);
}

template <typename T>
void linear_log_softmax_topk(const TopkRows<T>& in, const Gemm<T>& product, bool tf32,
                             Stream stream) {
  with_math<T>(tf32, [&]<class Math>() {
    using Kernel = TileKernel<Math>;
    launch(Kernel{Scan<T>(in), product, is_aligned(product)},
           divide_up(product.rows, Kernel::Tile::kRows) *
               divide_up(product.columns, Kernel::Tile::kColumns),
           Kernel::kShared, stream);
  });
  finish_rows(in, stream);
}

#define SEQ2SEQ_EXT_TOPK(T)                                                      \
  template void log_softmax_topk(const TopkRows<T>&, const T*, int64_t, Stream); \
  template void linear_log_softmax_topk(const TopkRows<T>&, const Gemm<T>&, bool, Stream);
SEQ2SEQ_EXT_TOPK(float)
SEQ2SEQ_EXT_TOPK(double)
SEQ2SEQ_EXT_TOPK(Bfloat16)
SEQ2SEQ_EXT_TOPK(Float16)

}  // namespace seq2seq_ext::cuda
