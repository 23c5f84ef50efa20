// The weight types at work: how weights lie in a panel, what a row of activations becomes, and
// one step of a sum over the depth. Everything above is one source for all of them.
//
// A weight type W has
//   T, kType                 activations, biases and results; the weights' name outside
//   kGroup                   depths that one step takes; the last group is filled with zeros
//   kEncodes                 rows are encoded before they meet the weights
//   kInTileUnit              the tile unit multiplies them
//   Stored, kPanelHead       a panel: a head of bytes, then [depth / n][kPanelWidth][n], n of a
//                            column side by side: kGroup, or what the tile unit takes
//   Row, kRowStep, kRowHead  a row: a head of bytes, then kRowStep values a group
//   pack(at, depth, width, panel)     at(k, j) is a weight, columns from width on are zero
//   encode(row, stride, depth, encoded)
//   Weights, Sum             a vector of columns in registers: the weights of a step, the sum
//   load(Stored*), step(Row*, Weights, Sum&); where kInTileUnit instead
//   product<sums, activations, weights>()     of the unit's registers
//   kScaled                  sums are no results before they are finished
//   FewRows                  if it is there: a type of the same panels and rows, for vectors
//   finish(Sum, Row*, Stored*, column, onto) -> Vec<T>; the pointers are those of depth 0; what
//                            lies at `onto` is added, if it is not null
// Row and Stored pointers are those behind the heads.
#pragma once

#include "../weights.h"
#include "turn.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

template <typename T>
constexpr int kPanelWidth = 2 * Simd<T>::kLanes;

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Bytes in whole cache lines.
constexpr int64_t lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Weights for a panel whose columns lie one after the other, stride apart.
template <typename T>
struct Columns {
  const T* data;
  int64_t stride;

  T operator()(int64_t k, int64_t j) const { return data[j * stride + k]; }
};

// float32 and float64, as they are.
template <typename Value>
struct FullWeights {
  using T = Value;
  static constexpr WeightType kType = WeightType::kFloat32;
  using Stored = T;
  using Row = T;
  using Weights = Vec<T>;
  using Sum = Vec<T>;
  static constexpr int kGroup = 1, kRowStep = 1;
  static constexpr int64_t kPanelHead = 0, kRowHead = 0;
  static constexpr bool kEncodes = false, kInTileUnit = false;

  template <class At>
  static void pack(const At& at, int64_t depth, int64_t width, T* panel) {
    constexpr int64_t kWidth = kPanelWidth<T>;
    if (width < kWidth) clear(panel, depth);
    const int64_t end = smaller(width, kWidth);
    for (int64_t k = 0; k < depth; ++k, panel += kWidth)
      if (end == kWidth)  // all of them: in vectors
        for (int64_t j = 0; j < kWidth; ++j) panel[j] = at(k, j);
      else
        for (int64_t j = 0; j < end; ++j) panel[j] = at(k, j);
  }
  static void pack(const Columns<T>& b, int64_t depth, int64_t width, T* panel) {
    constexpr int64_t kWidth = kPanelWidth<T>;
    if (width < kWidth) clear(panel, depth);
    const T* columns[kWidth];
    for (int64_t j = 0; j < smaller(width, kWidth); ++j) columns[j] = b.data + j * b.stride;
    turn(columns, smaller(width, kWidth), depth, panel, kWidth);
  }
  static void clear(T* panel, int64_t depth) {
    for (int64_t i = 0; i < depth * kPanelWidth<T>; ++i) panel[i] = 0;
  }

  static void encode(const T* row, int64_t stride, int64_t depth, T* encoded) {
    for (int64_t k = 0; k < depth; ++k) encoded[k] = row[k * stride];
  }

  static Weights load(const T* weights) { return SEQ2SEQ_EXT_ISA::load(weights); }
  static void step(const T* row, Weights w, Sum& sum) {
    sum = multiply_add(broadcast(*row), w, sum);
  }
  static Vec<T> finish(Sum sum, const T*, const T*, int, const T* onto) {
    return onto ? sum + SEQ2SEQ_EXT_ISA::load(onto) : sum;
  }
};

template <class W>
constexpr int64_t groups(int64_t depth) {
  return (depth + W::kGroup - 1) / W::kGroup;
}

// Depths that fill no group leave the rest of a row's last one as it was: makes all of it zeros.
template <class W>
inline void clear_last_group(typename W::Row* encoded, int64_t depth) {
  if (depth % W::kGroup == 0) return;
  for (int i = 0; i < W::kRowStep; ++i) encoded[(groups<W>(depth) - 1) * W::kRowStep + i] = 0;
}

// Bytes of one panel, and of one row: an odd number of cache lines if encoded, so that L1 holds
// lines of many rows at once.
template <class W>
constexpr int64_t panel_bytes(int64_t depth) {
  return W::kPanelHead +
         groups<W>(depth) * W::kGroup * kPanelWidth<typename W::T> * sizeof(typename W::Stored);
}

template <class W>
constexpr int64_t row_bytes(int64_t depth) {
  const int64_t bytes = W::kRowHead + groups<W>(depth) * W::kRowStep * sizeof(typename W::Row);
  return W::kEncodes ? lines(bytes) | 64 : bytes;
}

// What lies `bytes` behind the begin of something.
template <typename T>
inline T* behind(void* whole, int64_t bytes) {
  return reinterpret_cast<T*>(static_cast<char*>(whole) + bytes);
}

template <typename T>
inline const T* behind(const void* whole, int64_t bytes) {
  return reinterpret_cast<const T*>(static_cast<const char*>(whole) + bytes);
}

inline int64_t bytes_between(const void* from, const void* to) {
  return static_cast<const char*>(to) - static_cast<const char*>(from);
}

// The first n lanes, or all of them: a copy of a size that only the run knows would be a call.
template <class V>
inline void store_first(const V& v, int64_t n, void* to) {
  constexpr int64_t kLanes = sizeof(v) / sizeof(v[0]);
  if (n >= kLanes)
    __builtin_memcpy(to, &v, sizeof(v));
  else
    __builtin_memcpy(to, &v, n * sizeof(v[0]));
}

template <class W, class At>
inline void pack_panel(const At& at, int64_t depth, int64_t width, void* panel) {
  W::pack(at, depth, width, behind<typename W::Stored>(panel, W::kPanelHead));
}

template <class W>
inline void encode_row(const typename W::T* row, int64_t stride, int64_t depth, void* encoded) {
  W::encode(row, stride, depth, behind<typename W::Row>(encoded, W::kRowHead));
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
