// The best of what the lanes of a warp hold.
#pragma once

#include "device.cuh"

namespace seq2seq_ext::cuda {

constexpr double kWorthNothing = -static_cast<double>(INFINITY);

// By (key desc, id asc).
struct Ranked {
  double key = kWorthNothing;
  int64_t id = INT64_MAX;

  __device__ bool precedes(const Ranked& other) const {
    return key > other.key || (key == other.key && id < other.id);
  }
};

__device__ inline Ranked best_of_warp(Ranked best) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    Ranked other;
    other.key = shuffle_xor(best.key, mask);
    other.id = shuffle_xor(best.id, mask);
    if (other.precedes(best)) best = other;
  }
  return best;
}

}  // namespace seq2seq_ext::cuda
