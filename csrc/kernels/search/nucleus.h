// The fewest tokens that make up a share of a row: whatever the order in which they are counted.
#pragma once

#include <cmath>
#include <cstdint>

#include "everywhere.h"

namespace seq2seq_ext {

// Shares are whole numbers of 2^-60, rounded down, whose sum is the same in any order.
constexpr double kShares = 0x1p60;

SEQ2SEQ_EXT_EVERYWHERE inline uint64_t share_of(double log_prob) {
  return static_cast<uint64_t>(std::exp(log_prob) * kShares);
}

// What the shares of a nucleus must reach; top_p is above 0 and at most 1.
inline uint64_t wanted_shares(double top_p) {
  return static_cast<uint64_t>(std::ceil(top_p * kShares));
}

}  // namespace seq2seq_ext
