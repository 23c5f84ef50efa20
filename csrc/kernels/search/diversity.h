// What keeps the groups of a diverse beam search apart, the same on every device.
#pragma once

#include <cstdint>

#include "everywhere.h"

namespace seq2seq_ext {

// What the key of a candidate loses for each of the `count` tokens used that is its own.
SEQ2SEQ_EXT_EVERYWHERE inline double diversity_loss(double diversity, const int64_t* used,
                                                    int64_t count, int64_t token) {
  int64_t uses = 0;
  for (int64_t i = 0; i < count; ++i) uses += used[i] == token;
  return diversity * static_cast<double>(uses);
}

}  // namespace seq2seq_ext
