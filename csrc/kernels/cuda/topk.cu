// First stage: four lanes read a block of logits from shared memory, sum it and choose its best
// tokens one after the other; no list can overflow, whatever the logits. Second stage: a block of
// threads chooses among the heads of a row's lists in the same way.
#include <type_traits>

#include "gemm_tile.cuh"
#include "nucleus.cuh"
#include "topk.h"
#include "topk_scan.cuh"

namespace seq2seq_ext::cuda {

namespace {

// What both kernels of the first stage know of the second.
template <typename T>
struct Scan {
  TopkRows<T> rows;
  int64_t lists, offers;

  explicit Scan(const TopkRows<T>& in)
      : rows(in),
        lists(topk_lists(in.vocabulary)),
        offers(topk_offers(in.k, in.noise.places != nullptr)) {}

  // The block at place `begin` in shared memory, of a row's list; n = 0 where there is none.
  template <bool kHasFloors>
  __device__ void run(const T* shared, int64_t begin, int64_t row, int64_t list) const {
    const int64_t first = list * kScanned, left = rows.vocabulary - first;
    const int64_t n = row >= rows.rows || left < 0 ? 0 : smaller(kScanned, left);
    const int64_t place = row * lists + list;
    scan_block<kHasFloors>(shared, begin, n, first, offers,
                           rules_of_row<Acc<T>>(rows.rules, rows.noise.places, row, n > 0),
                           {rows.sums + place, rows.offers + place * offers, n > 0});
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
    scan.template run<true>(shared, list * kScanned, row, part * kLists + list);
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
      scan.template run<false>(shared, i * kScanned, row + i / kLists,
                               column / kScanned + i % kLists);
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
template <typename T, bool kHasNoise>
struct RowKernel {
  using A = Acc<T>;
  using Key = std::conditional_t<kHasNoise, double, A>;
  static constexpr int kThreads = 128, kBlocksPerSm = 8, kWarps = kThreads / kWarp;
  Scan<T> scan;

  struct Shared {
    Token<Key> best[2][kWarps];
    double max[kThreads], sum[kThreads];
  };

  __device__ void operator()(char* shared_bytes) const {
    Shared& shared = *reinterpret_cast<Shared*>(shared_bytes);
    const int64_t row = block_index(), k = scan.rows.k;
    const double lse = log_sum_exp(scan.rows.sums + row * scan.lists, shared);
    if (!(lse - lse == 0)) {
      for (int64_t i = thread_index(); i < k; i += kThreads)
        write(i, {{kNothing<Key>, i}, kNothing<A>});
      return;
    }
    if (kHasNoise) add_noise();
    Offered own = best_behind(first_token<Key>(), lse);
    for (int64_t i = 0; i < k; ++i) {
      const Token<Key> best = block_best<kWarps>(own.token, shared.best[i % 2]);
      if (own.token.id != best.id) continue;
      write(i, own);
      own = best_behind(best, lse);
    }
  }

 private:
  struct Offered {
    Token<Key> token = last_token<Key>();
    A log_prob = kNothing<A>;
  };

  __device__ void write(int64_t rank, const Offered& offered) const {
    const int64_t place = block_index() * scan.rows.k + rank;
    scan.rows.log_probs[place] = offered.log_prob;
    scan.rows.tokens[place] = offered.token.id;
    if (kHasNoise) scan.rows.noise.perturbed[place] = offered.token.logit;
  }

  // That of what this thread's lists offer.
  __device__ void add_noise() const {
    const NoisePlace place = scan.rows.noise.places[block_index()];
    for (int64_t list = thread_index(); list < scan.lists; list += kThreads) {
      const int64_t first = (block_index() * scan.lists + list) * scan.offers;
      for (int64_t i = first; i < first + scan.offers; ++i)
        scan.rows.noise.offered[i] = gumbel_noise(place, scan.rows.offers[i].id);
    }
  }

  __device__ Offered offered_at(int64_t place, double lse) const {
    const Token<A>& token = scan.rows.offers[place];
    const double exact = static_cast<double>(token.logit) - lse;
    const A log_prob = static_cast<A>(exact < 0 ? exact : 0);
    if constexpr (kHasNoise)
      return {{log_prob + scan.rows.noise.offered[place], token.id}, log_prob};
    else
      return {token, log_prob};
  }

  // Without noise the first of a list is the best.
  __device__ Offered best_behind(const Token<Key>& last, double lse) const {
    Offered best;
    for (int64_t list = thread_index(); list < scan.lists; list += kThreads) {
      const int64_t first = (block_index() * scan.lists + list) * scan.offers;
      for (int64_t i = 0; i < scan.offers; ++i) {
        const Offered offered = offered_at(first + i, lse);
        if (!is_better(last, offered.token)) continue;
        if (is_better(offered.token, best.token)) best = offered;
        if (!kHasNoise) break;
      }
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
  const auto finish = [&]<class Kernel>(const Kernel& kernel) {
    launch(kernel, in.rows, sizeof(typename Kernel::Shared), stream);
  };
  if (in.noise.places)
    finish(RowKernel<T, true>{Scan<T>(in)});
  else
    finish(RowKernel<T, false>{Scan<T>(in)});
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

template <typename A>
void find_nucleus(const Nucleus<A>& in, Stream stream) {
  using Kernel = NucleusKernel<A>;
  launch(Kernel{in}, in.rows, sizeof(typename Kernel::Shared), stream);
}

template void find_nucleus(const Nucleus<float>&, Stream);
template void find_nucleus(const Nucleus<double>&, Stream);

#define SEQ2SEQ_EXT_TOPK(T)                                                      \
  template void log_softmax_topk(const TopkRows<T>&, const T*, int64_t, Stream); \
  template void linear_log_softmax_topk(const TopkRows<T>&, const Gemm<T>&, bool, Stream);
SEQ2SEQ_EXT_TOPK(float)
SEQ2SEQ_EXT_TOPK(double)
SEQ2SEQ_EXT_TOPK(Bfloat16)
SEQ2SEQ_EXT_TOPK(Float16)

}  // namespace seq2seq_ext::cuda
