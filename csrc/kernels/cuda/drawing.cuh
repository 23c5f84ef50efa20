// Samples of a row that has few tokens left.
#pragma once

#include "../search/gumbel.h"
#include "beam_search.h"
#include "best.cuh"

namespace seq2seq_ext::cuda {

// A warp for each row: its lanes add the noise, and choose the best one after the other.
struct DrawKernel {
  static constexpr int kThreads = kWarp, kBlocksPerSm = 16;
  Draw in;

  __device__ void operator()(char* shared) const {
    double* const keys = reinterpret_cast<double*>(shared);
    const int64_t row = block_index(), begin = row * in.count;
    for (int64_t i = thread_index(); i < in.count; i += kWarp)
      keys[i] = in.log_probs[begin + i] + gumbel_noise(in.places[row], in.tokens[begin + i]);
    for (int64_t place = row * in.width; place < (row + 1) * in.width; ++place) {
      int64_t own;
      const Ranked best = best_of_warp(best_of_lane(keys, own));
      if (best.id == INT64_MAX) {
        if (thread_index() == 0) write(place, best, 0, kWorthNothing);
      } else if (own < in.count && in.tokens[begin + own] == best.id) {
        write(place, best, best.id, in.log_probs[begin + own]);
        keys[own] = kWorthNothing;
      }
    }
  }

 private:
  // Of those that are left, and where it lies; in.count for nowhere.
  __device__ Ranked best_of_lane(const double* keys, int64_t& own) const {
    Ranked best;
    own = in.count;
    for (int64_t i = thread_index(); i < in.count; i += kWarp) {
      const Ranked token{keys[i], in.tokens[block_index() * in.count + i]};
      if (token.key > kWorthNothing && token.precedes(best)) best = token, own = i;
    }
    return best;
  }

  __device__ void write(int64_t place, const Ranked& drawn, int64_t token, double log_prob) const {
    in.drawn_log_probs[place] = log_prob;
    in.drawn_tokens[place] = token;
    in.perturbed[place] = drawn.key;
  }
};

}  // namespace seq2seq_ext::cuda
