#include "../floors.h"

#include "gemm_tile.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

namespace {

// Keeps the compiler from knowing what lies at p, and from dropping or moving the work around.
inline void obscure(void* p) { asm volatile("" : : "r"(p) : "memory"); }

// In vector registers: two of sums a row.
template <class W>
int64_t multiply_in_vectors(int64_t steps) {
  using T = typename W::T;
  constexpr int kRowStep = W::kRowStep, kRowBytes = kTileRows * kRowStep * sizeof(typename W::Row);
  constexpr int kStep = kPanelWidth<T> * W::kGroup;
  typename W::Stored weights[kStep];
  typename W::Row rows[kTileRows * kRowStep];
  // Numbers of every kind without a zero bit pattern: zeros would draw less power.
  __builtin_memset(weights, 0x3f, sizeof(weights));
  __builtin_memset(rows, 0x3f, kRowBytes);
  obscure(weights);
  obscure(rows);
  const typename W::Weights w0 = W::load(weights), w1 = W::load(weights + kStep / 2);
  typename W::Sum sums[kTileRows][2] = {};
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 12
    for (int m = 0; m < kTileRows; ++m) {
      W::step(rows + m * kRowStep, w0, sums[m][0]);
      W::step(rows + m * kRowStep, w1, sums[m][1]);
    }
    obscure(rows);
  }
  typename W::Sum seen[kTileRows][2];
#pragma GCC unroll 12
  for (int m = 0; m < kTileRows; ++m) seen[m][0] = sums[m][0], seen[m][1] = sums[m][1];
  obscure(seen);
  return steps * 2 * W::kGroup * kTileRows * kPanelWidth<T>;
}

// In the tile unit's registers: two of rows times two of weights.
template <class W>
int64_t multiply_in_unit(int64_t steps) {
  TileShapes shapes;
  for (int tile = 0; tile < 8; ++tile) shapes.set(tile, kUnitRows);
  char values[kUnitRows * kUnitBytes];
  __builtin_memset(values, 0x3f, sizeof(values));
  begin_tiles(shapes);
  load_tile<kActivations>(values, kUnitBytes);
  load_tile<kActivations + 1>(values, kUnitBytes);
  load_tile<kWeights>(values, kUnitBytes);
  load_tile<kWeights + 1>(values, kUnitBytes);
  for (int64_t s = 0; s < steps; ++s) {
    W::template product<kSums, kActivations, kWeights>();
    W::template product<kSums + 1, kActivations, kWeights + 1>();
    W::template product<kSums + 2, kActivations + 1, kWeights>();
    W::template product<kSums + 3, kActivations + 1, kWeights + 1>();
  }
  end_tiles();
  return steps * 2 * W::kGroup * kTileRows * kPanelWidth<typename W::T>;
}

template <class W>
int64_t multiply(int64_t steps) {
  if constexpr (W::kInTileUnit)
    return multiply_in_unit<W>(steps);
  else
    return multiply_in_vectors<W>(steps);
}

int64_t read(const void* data, int64_t bytes) {
  constexpr int64_t kAtOnce = 1024 / kVectorBytes;
  VecI sums[8] = {};
  for (int64_t at = 0; at < bytes; at += 1024)
#pragma GCC unroll 64
    for (int64_t i = 0; i < kAtOnce; ++i) {
      VecI v;
      __builtin_memcpy(&v, behind<char>(data, at + i * kVectorBytes), sizeof(v));
      sums[i % 8] += v;
    }
  int64_t sum = 0;
  for (int i = 0; i < 8; ++i) sum += sums[i][0];
  return sum;
}

}  // namespace

template <class W>
FloorKernels floor_kernels() {
  return {multiply<W>, read};
}

#define INSTANTIATE(W) template FloorKernels floor_kernels<W>();
SEQ2SEQ_EXT_FOR_WEIGHTS(INSTANTIATE)

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
