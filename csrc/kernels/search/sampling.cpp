#include "sampling.h"

#include <array>
#include <cmath>
#include <limits>

namespace seq2seq_ext {

namespace {

using Words = std::array<uint32_t, 4>;

Words philox(Words counter, uint64_t seed) {
  uint32_t key_low = static_cast<uint32_t>(seed), key_high = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t even = uint64_t{0xD2511F53} * counter[0];
    const uint64_t odd = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(odd >> 32) ^ counter[1] ^ key_low, static_cast<uint32_t>(odd),
               static_cast<uint32_t>(even >> 32) ^ counter[3] ^ key_high,
               static_cast<uint32_t>(even)};
    key_low += 0x9E3779B9;
    key_high += 0xBB67AE85;
  }
  return counter;
}

}  // namespace

double gumbel_noise(const NoisePlace& place, int64_t token) {
  const Words words =
      philox({static_cast<uint32_t>(token / 2), place.step, place.lane, 0}, place.seed);
  const int half = token % 2 * 2;
  const uint64_t bits = uint64_t{words[half + 1]} << 32 | words[half];
  const double uniform = (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;  // in (0, 1)
  return -std::log(-std::log(uniform));
}

double conditioned(double perturbed, double largest, double parent_key) {
  if (perturbed == largest) return parent_key;
  const double v = parent_key - perturbed + std::log1p(-std::exp(perturbed - largest));
  return parent_key - std::fmax(0.0, v) - std::log1p(std::exp(-std::fabs(v)));
}

}  // namespace seq2seq_ext
