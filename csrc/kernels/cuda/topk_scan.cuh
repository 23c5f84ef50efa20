// How four lanes read a block of logits: its sum, and its best tokens.
#pragma once

#include "../search/gumbel.h"
#include "device.cuh"
#include "topk.h"

namespace seq2seq_ext::cuda {

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
  const Token<double>* floor;
  const NoisePlace* place;  // null for all rows or for none

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
      if (is_seen >> i & 1) logits[i] = penalised(logits[i]);
  }

  __device__ A penalised(A logit) const { return logit > 0 ? logit / penalty : logit * penalty; }

  __device__ int64_t bans() const { return listed && *listed > 0 ? *listed : 0; }
  __device__ bool keeps_few() const { return listed && *listed < 0; }
  __device__ bool keeps(int64_t token) const {
    for (int64_t i = 1; i <= -*listed; ++i)
      if (listed[i] == token) return true;
    return false;
  }
};

// Those of a row, or of none.
template <typename A>
__device__ RowRules<A> rules_of_row(const TopkRules<A>& told, const NoisePlace* places, int64_t row,
                                    bool is_there) {
  const auto of_row = [&](const auto* list, int64_t stride) {
    return list && is_there ? list + row * stride : nullptr;
  };
  return {told.temperature,
          told.penalty,
          of_row(told.seen, told.seen_stride),
          of_row(told.listed, told.listed_stride),
          of_row(told.floors, 1),
          places ? places + (is_there ? row : 0) : nullptr};
}

// Where the results of a block go.
template <typename A>
struct ScanResult {
  BlockSum* sum;
  Token<A>* offers;
  bool is_there;  // where not, nothing is written
};

// Calls write(rank, token) for the best `count` of what four lanes hold by keys; those of a lane
// are of the tokens from `first` on.
template <typename A, class Write>
__device__ void choose_best(const A (&keys)[kLaneLogits], int64_t first, int64_t count,
                            const Write& write) {
  Token<A> last = first_token<A>();
  for (int64_t i = 0; i < count; ++i) {
    Token<A> best = last_token<A>();
#pragma unroll
    for (int j = 0; j < kLaneLogits; ++j) {
      const Token<A> token{keys[j], first + j};
      if (is_better(last, token) && is_better(token, best)) best = token;
    }
    last = better_of_lanes(best, kScanLanes);
    write(i, last);
  }
}

// The best by logit plus noise; the lane that holds one writes it. Registers hold no more than
// rounded sums: the second stage makes the noise of what is offered again.
template <typename A>
__device__ void choose_perturbed(const A (&logits)[kLaneLogits], int64_t first, int64_t count,
                                 const NoisePlace& place, const ScanResult<A>& out) {
  A keys[kLaneLogits];
#pragma unroll 1
  for (int i = 0; i < kLaneLogits; ++i) {
    const double noise = gumbel_noise(place, first + i);
#pragma unroll
    for (int j = 0; j < kLaneLogits; ++j)
      if (j == i) keys[j] = static_cast<A>(logits[j] + noise);
  }
  choose_best(keys, first, count, [&](int64_t rank, const Token<A>& chosen) {
#pragma unroll
    for (int j = 0; j < kLaneLogits; ++j)
      if (out.is_there && first + j == chosen.id) out.offers[rank] = {logits[j], chosen.id};
  });
}

// Reads a block of n logits, of the tokens from first_id on; `begin` is its place among those in
// shared memory. All lanes of a warp call, four for each block; those without a block with n = 0.
// Behind the end of a row there is nothing, and its ids come behind all that there are.
template <bool kHasFloors, typename T>
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
  if (lane == 0 && out.is_there)
    *out.sum = {has_nan ? static_cast<double>(NAN) : static_cast<double>(max), sum};
  for (int64_t b = rules.bans(); b > 0; --b)
#pragma unroll
    for (int i = 0; i < kLaneLogits; ++i)
      if (first_id + skipped + i == rules.listed[b]) logits[i] = kNothing<A>;
  if (rules.keeps_few())
#pragma unroll
    for (int i = 0; i < kLaneLogits; ++i)
      if (!rules.keeps(first_id + skipped + i)) logits[i] = kNothing<A>;
  const int64_t first = first_id + skipped;
  if (kHasFloors && rules.floor) {
    const Token<A> floor{static_cast<A>(rules.floor->logit), rules.floor->id};
#pragma unroll
    for (int i = 0; i < kLaneLogits; ++i)
      if (is_better(floor, {logits[i], first + i})) logits[i] = kNothing<A>;
  }
  if (rules.place) return choose_perturbed(logits, first, offers, *rules.place, out);
  choose_best(logits, first, offers, [&](int64_t rank, const Token<A>& chosen) {
    if (lane == 0 && out.is_there) out.offers[rank] = chosen;
  });
}

}  // namespace seq2seq_ext::cuda
