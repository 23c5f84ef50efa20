// Which tokens of a row top_k and top_p keep: all up to the last one, its floor.
#pragma once

#include "../search/nucleus.h"
#include "device.cuh"
#include "topk.h"
#include "topk_scan.cuh"

namespace seq2seq_ext::cuda {

// Words in the order of what they stand for.
__device__ inline uint32_t ordered_word(float x) {
  union {
    float value;
    uint32_t word;
  } bits{x == 0 ? 0 : x};  // zeros are equal, whatever their sign
  return bits.word >> 31 ? ~bits.word : bits.word | uint32_t{1} << 31;
}
__device__ inline uint64_t ordered_word(double x) {
  union {
    double value;
    uint64_t word;
  } bits{x == 0 ? 0 : x};
  return bits.word >> 63 ? ~bits.word : bits.word | uint64_t{1} << 63;
}

// A block for each row. Nothing is sorted: the order's words are found digit by digit from what
// the tokens of each digit weigh in all.
template <typename A>
struct NucleusKernel {
  static constexpr int kThreads = 256, kBlocksPerSm = 2, kWarps = kThreads / kWarp;
  static constexpr int kDigit = 4, kDigits = 1 << kDigit;  // bits, and what they can be
  Nucleus<A> in;

  struct Shared {
    uint64_t weights[kWarps][kDigits];
    double partial[kWarps];
  };

  __device__ void operator()(char* shared) const {
    Row row(in, *reinterpret_cast<Shared*>(shared));
    row.apply_rules();
    Token<A> floor = last_token<A>();
    if (in.top_k > 0 && in.top_k < in.vocabulary)
      floor = row.last_of(in.top_k, floor, [](int64_t) -> uint64_t { return 1; });
    const double lse = row.log_sum_exp(floor);
    floor = row.last_of(in.wanted, floor, [&](int64_t token) { return row.share(token, lse); });
    if (thread_index() == 0) in.floors[block_index()] = {floor.logit, floor.id};
  }

 private:
  class Row {
   public:
    __device__ Row(const Nucleus<A>& in, Shared& shared)
        : shared_(shared),
          given_(in.logits + block_index() * in.stride),
          logits_(in.ruled + block_index() * in.vocabulary),
          vocabulary_(in.vocabulary),
          rules_(rules_of_row<A>(in.rules, nullptr, block_index(), true)) {}

    // As scan_block().
    __device__ void apply_rules() const {
      for_each([&](int64_t i) { logits_[i] = tempered(i); });
      sync_block();
      for (int64_t i = thread_index(); rules_.seen && i < *rules_.seen; i += kThreads) {
        const int64_t token = rules_.seen[1 + i];  // from where it is not penalised
        logits_[token] = rules_.penalised(tempered(token));
      }
      sync_block();
      for (int64_t i = thread_index(); i < rules_.bans(); i += kThreads)
        logits_[rules_.listed[1 + i]] = kNothing<A>;
      if (rules_.keeps_few())
        for_each([&](int64_t i) {
          if (!rules_.keeps(i)) logits_[i] = kNothing<A>;
        });
      sync_block();
    }

    // The last of the fewest tokens, the best first, whose weights reach `wanted`; none is behind
    // `floor`. The last of all where they don't.
    template <class Weight>
    __device__ Token<A> last_of(uint64_t wanted, const Token<A>& floor, const Weight& weight) {
      const auto weight_of = [&](int64_t token) {
        return is_better(floor, {logits_[token], token}) ? 0 : weight(token);
      };
      const auto logit_of = [&](int64_t token) { return ordered_word(logits_[token]); };
      using Word = decltype(logit_of(0));
      Word logit = 0;
      if (!descend(8 * sizeof(Word), wanted, logit, logit_of, weight_of)) return floor;
      uint32_t bits = kDigit;
      while ((vocabulary_ - 1) >> bits) bits += kDigit;
      const uint64_t largest = (uint64_t{1} << bits) - 1;
      uint64_t place = 0;
      descend(
          bits, wanted, place, [&](int64_t token) { return largest - token; },
          [&](int64_t token) { return logit_of(token) == logit ? weight_of(token) : 0; });
      const int64_t id = largest - place;
      return {logits_[id], id};
    }

    // Of what a floor leaves.
    __device__ double log_sum_exp(const Token<A>& floor) {
      double max = kNothing<double>;
      const auto for_those_left = [&](const auto& visit) {
        for_each([&](int64_t i) {
          if (!is_better(floor, {logits_[i], i})) visit(static_cast<double>(logits_[i]));
        });
      };
      for_those_left([&](double logit) { max = logit > max ? logit : max; });
      max = of_block(warp_max(max), [](double a, double b) { return a > b ? a : b; });
      if (!(max - max == 0)) return max;
      double sum = 0;
      for_those_left([&](double logit) { sum += exp(logit - max); });
      return max + log(of_block(warp_sum(sum), [](double a, double b) { return a + b; }));
    }

    __device__ uint64_t share(int64_t token, double lse) const {
      const double exact = static_cast<double>(logits_[token]) - lse;
      return share_of(static_cast<A>(exact < 0 ? exact : 0));
    }

   private:
    template <class Visit>
    __device__ void for_each(const Visit& visit) const {
      for (int64_t i = thread_index(); i < vocabulary_; i += kThreads) visit(i);
    }

    __device__ A tempered(int64_t token) const { return given_[token] / rules_.temperature; }

    // Finds the word of `bits` bits up to which, from the largest on, weights reach `wanted`, of
    // which that of the larger ones is taken; false if no word is.
    template <typename Word, class WordOf, class Weight>
    __device__ bool descend(int bits, uint64_t& wanted, Word& found, const WordOf& word_of,
                            const Weight& weight_of) {
      for (int shift = bits - kDigit; shift >= 0; shift -= kDigit) {
        uint64_t weights[kDigits] = {};
        for_each([&](int64_t token) {
          const Word word = word_of(token);
          if (word >> shift >> kDigit != found) return;
          const int digit = word >> shift & (kDigits - 1);
          const uint64_t weight = weight_of(token);
#pragma unroll
          for (int d = 0; d < kDigits; ++d) weights[d] += d == digit ? weight : 0;
        });
        const int digit = digit_of(weights, wanted);
        if (digit < 0) return false;
        found = found << kDigit | digit;
      }
      return true;
    }

    __device__ int digit_of(const uint64_t (&weights)[kDigits], uint64_t& wanted) {
      sync_block();  // all have read what was there
#pragma unroll
      for (int digit = 0; digit < kDigits; ++digit) {
        const uint64_t of_warp = warp_sum(weights[digit]);
        if (lane_index() == 0) shared_.weights[warp_index()][digit] = of_warp;
      }
      sync_block();
      for (int digit = kDigits - 1; digit >= 0; --digit) {
        uint64_t weight = 0;
        for (int warp = 0; warp < kWarps; ++warp) weight += shared_.weights[warp][digit];
        if (weight >= wanted) return digit;
        wanted -= weight;
      }
      return -1;
    }

    // Of a value a warp, in their order.
    template <class Join>
    __device__ double of_block(double value, const Join& join) {
      sync_block();
      if (lane_index() == 0) shared_.partial[warp_index()] = value;
      sync_block();
      value = shared_.partial[0];
      for (int warp = 1; warp < kWarps; ++warp) value = join(value, shared_.partial[warp]);
      return value;
    }

    Shared& shared_;
    const A* const given_;
    A* const logits_;
    const int64_t vocabulary_;
    const RowRules<A> rules_;
  };
};

}  // namespace seq2seq_ext::cuda
