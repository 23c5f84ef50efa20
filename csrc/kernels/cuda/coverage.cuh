// The mass of attention that each position of the source has had.
#pragma once

#include "beam_search.h"
#include "device.cuh"

namespace seq2seq_ext::cuda {

// A thread for each row, whose terms are sums in the order of positions, as coverage_term's.
struct CoverageKernel {
  static constexpr int kThreads = kWarp, kBlocksPerSm = 16;
  CoverageGrowth in;

  __device__ void operator()(char*) const {
    const int64_t rows = in.sentences * in.beams;
    const int64_t row = block_index() * kThreads + thread_index(), first = row * in.positions;
    if (row >= rows) return;
    const int64_t length = in.lengths[row / in.beams];
    double before = 0, after = 0;
    for (int64_t i = 0; i < in.positions; ++i) {
      const double mass = in.coverage[first + i], grown = mass + in.attention[first + i];
      in.grown[first + i] = grown;
      if (i < length) before += term(mass), after += term(grown);
    }
    in.terms[row] = in.beta * before;
    in.terms[rows + row] = in.beta * after;
  }

 private:
  __device__ double term(double mass) const {
    if (in.penalty == CoveragePenalty::kSummary) return 1 - (mass < 1 ? 1 : mass);
    const double at_most_one = mass > 1 ? 1 : mass;
    return log(at_most_one < kLeastMass ? kLeastMass : at_most_one);
  }
};

}  // namespace seq2seq_ext::cuda
