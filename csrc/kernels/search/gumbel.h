// What a search by Gumbel noise computes, the same on every device.
#pragma once

#include <cmath>
#include <cstdint>

#include "everywhere.h"
#include "sampling.h"

namespace seq2seq_ext {

// Two words of Philox4x32-10 for a token: the uniform number behind its noise.
SEQ2SEQ_EXT_EVERYWHERE inline uint64_t noise_bits(const NoisePlace& place, int64_t token) {
  uint32_t c0 = static_cast<uint32_t>(token / 2), c1 = place.step, c2 = place.lane, c3 = 0;
  uint32_t key_low = static_cast<uint32_t>(place.seed);
  uint32_t key_high = static_cast<uint32_t>(place.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t even = uint64_t{0xD2511F53} * c0, odd = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(odd >> 32) ^ c1 ^ key_low;
    c1 = static_cast<uint32_t>(odd);
    c2 = static_cast<uint32_t>(even >> 32) ^ c3 ^ key_high;
    c3 = static_cast<uint32_t>(even);
    key_low += 0x9E3779B9;
    key_high += 0xBB67AE85;
  }
  return token % 2 ? uint64_t{c3} << 32 | c2 : uint64_t{c1} << 32 | c0;
}

// The standard Gumbel number of a token at a place of a search.
SEQ2SEQ_EXT_EVERYWHERE inline double gumbel_noise(const NoisePlace& place, int64_t token) {
  const uint64_t bits = noise_bits(place, token) >> 12;
  const double uniform = (static_cast<double>(bits) + 0.5) * 0x1p-52;  // in (0, 1)
  return -std::log(-std::log(uniform));
}

// The key of a child in a Gumbel top-k beam: its perturbed log-prob, conditioned on the largest
// of its siblings being its parent's key (Kool et al. 2019, appendix B.3).
SEQ2SEQ_EXT_EVERYWHERE inline double conditioned(double perturbed, double largest,
                                                 double parent_key) {
  if (perturbed == largest) return parent_key;
  const double v = parent_key - perturbed + std::log1p(-std::exp(perturbed - largest));
  return parent_key - std::fmax(0.0, v) - std::log1p(std::exp(-std::fabs(v)));
}

}  // namespace seq2seq_ext
