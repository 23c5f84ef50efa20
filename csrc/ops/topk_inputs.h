// The checks of the top-k ops, on any device.
#pragma once

#include "check.h"

namespace seq2seq_ext {

inline void check_k(const char* op, int64_t k, int64_t vocabulary) {
  TORCH_CHECK_VALUE(k >= 1 && k <= vocabulary, op, ": k: expected 1 to V = ", vocabulary, ", got ",
                    k);
}

inline void check_logits(const char* op, const at::Tensor& logits, int64_t k) {
  check_dim(op, "logits", logits, 2, "[rows, V]");
  TORCH_CHECK_VALUE(logits.size(1) > 0, op, ": logits: expected V >= 1, got shape ",
                    logits.sizes());
  check_k(op, k, logits.size(1));
}

}  // namespace seq2seq_ext
