// A few rows times a few packed panels: what a micro-kernel (gemm_tile.h) is asked for.
#pragma once

#include "weight_types.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

// 2 * kTileRows accumulators leave room for a panel row and a broadcast: 16 vector
// registers, or 32 with AVX-512. The tile unit takes two of its registers of rows.
#ifdef SEQ2SEQ_EXT_TILE_UNIT
constexpr int kTileRows = 32;
#else
constexpr int kTileRows = kVectorBytes == 64 ? 12 : 6;
#endif

// How many bytes ahead of a panel's row to ask for: panels stream from L2, and the hardware's own
// prefetch stops at every page.
constexpr int64_t kPrefetch = 3072;

template <typename T>
constexpr int64_t panel_count(int64_t columns) {
  return (columns + kPanelWidth<T> - 1) / kPanelWidth<T>;
}

// Prefetches kCount values that are read, or written (kWrite), when a tile is done: rows far apart
// are nothing that the hardware foresees.
template <int kWrite, int64_t kCount, typename T>
inline void ask_for(const T* values) {
  constexpr int64_t kLine = 64 / sizeof(T);
#pragma GCC unroll 16
  for (int64_t i = 0; i < kCount; i += kLine) __builtin_prefetch(values + i, kWrite);
}

template <class W>
struct Tile {
  using T = typename W::T;
  const typename W::Row* a;  // encoded rows, a_stride bytes apart; else a strip
  int64_t a_stride;
  const typename W::Stored* panels;  // first panel
  int64_t steps;                     // groups of depths
  int64_t panel_stride;              // bytes from one panel to the next
  T* c;                              // [rows][panels * kPanelWidth], row stride c_stride
  int64_t c_stride;
  const T* onto = nullptr;  // what the sum is added to, as c lies; c itself, or not in it; or null
  int64_t onto_stride = 0;
  int64_t chain = steps;      // groups that are summed in registers before c takes the sum
  int64_t ahead = kPrefetch;  // bytes from a panel's row to what is asked for meanwhile
};

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
