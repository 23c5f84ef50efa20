// The twin of ../topk.h on a GPU, in two stages: parts of each row, then the row. The cut of a row
// follows from the vocabulary alone, so a row's bits depend on nothing but itself.
#pragma once

#include "../topk.h"
#include "types.h"

namespace seq2seq_ext::cuda {

constexpr int64_t kMostTopkParts = 64;

constexpr int64_t topk_parts(int64_t vocabulary) {
  constexpr int64_t kLeast = 2048;
  const int64_t parts = (vocabulary + kLeast - 1) / kLeast;
  return parts < kMostTopkParts ? parts : kMostTopkParts;
}

// Logits of a part, but for the last one.
constexpr int64_t topk_part_size(int64_t vocabulary) {
  const int64_t parts = topk_parts(vocabulary);
  return (vocabulary + parts - 1) / parts;
}

// The tokens that a part may offer.
constexpr int64_t topk_offers(int64_t vocabulary, int64_t k) {
  const int64_t size = topk_part_size(vocabulary);
  return k < size ? k : size;
}

template <typename T>
struct TopkRows {
  int64_t rows, vocabulary, k;  // 1 <= k <= vocabulary
  const T* logits;              // [rows, V]
  int64_t stride;               // from one row to the next
  BlockSum* sums;               // [rows, parts] scratch
  Token<Acc<T>>* offers;        // [rows, parts, topk_offers()] scratch
  T* log_probs;                 // [rows, k]
  int64_t* tokens;              // [rows, k]
};

template <typename T>
void log_softmax_topk(const TopkRows<T>&, Stream);

}  // namespace seq2seq_ext::cuda
