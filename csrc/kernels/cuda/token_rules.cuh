// What each row of a search may and may not say next, from what it has said.
#pragma once

#include "beam_search.h"
#include "device.cuh"

namespace seq2seq_ext::cuda {

// A warp for each row: a lane walks back to the first token, all of them compare.
struct RulesKernel {
  static constexpr int kThreads = kWarp, kBlocksPerSm = 16;
  TokenRules rules;
  SearchRules search;
  SearchState state;
  int64_t listed_size, seen_size;  // of a row's lists

  __device__ void operator()(char* shared) const {
    const int64_t row = block_index();
    const SearchCounters& now = state.counters[row / search.beams];
    int64_t* const listed = rules.listed + row * listed_size;
    int64_t* const seen = rules.seen ? rules.seen + row * seen_size : nullptr;
    if (row % search.beams >= now.live) return list_nothing(listed, seen);
    const Path path = read(row, now.length, reinterpret_cast<int64_t*>(shared));
    if (seen) list_all(path, seen);
    if (now.length < rules.prefix_length) return keep_only(rules.prefix[now.length], listed);
    const int64_t banned = ban(path, listed);
    if (rules.force_eos && now.length + 1 == search.max_length)
      keep_other_eos(banned, listed);
    else
      ban_early_eos(banned, now.length, listed);
  }

 private:
  struct Path {
    const int64_t* tokens;
    int64_t length;

    // Whether the first `count` of `other` are its last ones.
    __device__ bool ends_with(const int64_t* other, int64_t count) const {
      if (count > length) return false;
      for (int64_t i = 0; i < count; ++i)
        if (tokens[length - count + i] != other[i]) return false;
      return true;
    }
  };

  __device__ static void list_nothing(int64_t* listed, int64_t* seen) {
    if (thread_index() != 0) return;
    *listed = 0;
    if (seen) *seen = 0;
  }

  __device__ static void list_all(const Path& path, int64_t* seen) {
    if (thread_index() == 0) *seen = path.length;
    for (int64_t i = thread_index(); i < path.length; i += kWarp) seen[1 + i] = path.tokens[i];
  }

  __device__ static void keep_only(int64_t token, int64_t* listed) {
    if (thread_index() != 0) return;
    listed[0] = -1;
    listed[1] = token;
  }

  // Of the EOS those that no rule has banned, or no token at all.
  __device__ void keep_other_eos(int64_t banned, int64_t* listed) const {
    sync_block();
    if (thread_index() != 0) return;
    int64_t* const kept = listed + 1 + banned;
    int64_t count = 0;
    for (int64_t i = 0; i < search.eos_count; ++i) {
      bool is_banned = false;
      for (int64_t b = 1; b <= banned; ++b) is_banned |= listed[b] == search.eos_ids[i];
      if (!is_banned) kept[count++] = search.eos_ids[i];
    }
    if (count == 0) return keep_only(kNoToken, listed);
    for (int64_t i = 0; i < count; ++i) listed[1 + i] = kept[i];
    *listed = -count;
  }

  __device__ void ban_early_eos(int64_t banned, int64_t steps, int64_t* listed) const {
    const int64_t early = steps + 1 < search.min_length ? search.eos_count : 0;
    for (int64_t i = thread_index(); i < early; i += kWarp)
      listed[1 + banned + i] = search.eos_ids[i];
    if (thread_index() == 0) *listed = banned + early;
  }

  __device__ Path read(int64_t row, int64_t length, int64_t* tokens) const {
    const bool has_first = rules.first != kNoToken;
    if (thread_index() == 0) {
      int64_t at = row;
      for (int64_t step = length - 1; step >= 0; --step) {
        const SearchNode& node = state.nodes[step * search.rows() + at];
        tokens[step + has_first] = node.token;
        at = node.parent;
      }
      if (has_first) tokens[0] = rules.first;
    }
    sync_block();
    return {tokens, length + has_first};
  }

  // How many tokens n-grams and sequences ban.
  __device__ int64_t ban(const Path& path, int64_t* listed) const {
    int64_t count = 0;
    const int64_t n = rules.ngram_size, ngrams = n ? path.length - n + 1 : 0;
    for (int64_t first = 0; first < ngrams; first += kWarp) {
      const int64_t* const ngram = path.tokens + first + thread_index();
      const bool repeats = first + thread_index() < ngrams && path.ends_with(ngram, n - 1);
      list(repeats, repeats ? ngram[n - 1] : 0, count, listed);
    }
    for (int64_t first = 0; first < rules.banned_count; first += kWarp) {
      const int64_t i = first + thread_index();
      const int64_t* const sequence = rules.banned + i * rules.banned_stride;
      const bool ends = i < rules.banned_count && path.ends_with(sequence + 1, *sequence - 1);
      list(ends, ends ? sequence[*sequence] : 0, count, listed);
    }
    return count;
  }

  // Puts the tokens of all lanes that have one behind the `count` that are there.
  __device__ static void list(bool has_token, int64_t token, int64_t& count, int64_t* listed) {
    int64_t up_to_here = count + has_token, all = has_token;
    for (int mask = 1; mask < kWarp; mask *= 2) {
      const int64_t other = shuffle_xor(all, mask);
      if (thread_index() & mask) up_to_here += other;
      all += other;
    }
    count += all;
    if (has_token) listed[up_to_here] = token;
  }
};

}  // namespace seq2seq_ext::cuda
