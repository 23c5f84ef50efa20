// Random numbers that are a pure function of where they are needed.
#pragma once

#include <cstdint>

namespace seq2seq_ext {

// A place of a search at which every token has a standard Gumbel number: Philox4x32-10 (Salmon
// et al. 2011) with the seed as its key and (token / 2, step, lane, 0) as its counter, so neither
// the batch, the threads nor the device change it.
struct NoisePlace {
  uint64_t seed;
  uint32_t step, lane;
};

constexpr int64_t kNoiseBlock = 256;

template <typename T>
struct SamplingKernels {
  // Reads n <= kNoiseBlock logits of the tokens from first on, which is even; none is NaN. Writes
  // the ids, ascending, of those whose logit plus noise may reach `least`, and returns how many:
  // all that do, but for roundings of 1e-4 + 1e-6 |least|, and few others. ids: [kNoiseBlock],
  // no alias of logits.
  int64_t (*reaching)(const NoisePlace& place, const T* logits, int64_t first, int64_t n, T least,
                      int64_t* ids);
};

}  // namespace seq2seq_ext
