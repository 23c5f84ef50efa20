// Random numbers that are a pure function of where they are needed.
#pragma once

#include <cstdint>

namespace seq2seq_ext {

// A standard Gumbel number for each token at this place of a search: Philox4x32-10 (Salmon et
// al. 2011) with the seed as its key and (token / 2, step, lane, 0) as its counter, so neither
// the batch, the threads nor the device change it.
class GumbelNoise {
 public:
  GumbelNoise(uint64_t seed, int64_t step, int64_t lane)
      : seed_(seed), step_(static_cast<uint32_t>(step)), lane_(static_cast<uint32_t>(lane)) {}

  double at(int64_t token) const;

 private:
  uint64_t seed_;
  uint32_t step_, lane_;
};

// The key of a child in a Gumbel top-k beam: its perturbed log-prob, conditioned on the largest
// of its siblings being its parent's key (Kool et al. 2019, appendix B.3).
double conditioned(double perturbed, double largest, double parent_key);

}  // namespace seq2seq_ext
