// The CPU's tile unit (AMX): eight registers of up to 16 rows of 64 bytes. A product takes rows of
// activations in one, weights that lie [depth / kBeside][16][kBeside] in another, and adds to 16
// sums a row in a third; a row's sums do not depend on the other rows.
//
// Spelled in assembler, as numbers of registers are part of the instruction and compilers older
// than the unit build it too. What a register holds is between begin_tiles and end_tiles.
#pragma once

#include "weight_types.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

constexpr int kUnitRows = 16, kUnitBytes = 64;

// Registers: sums [2][2], two of activations, two of weights.
constexpr int kSums = 0, kActivations = 4, kWeights = 6;

// What `ldtilecfg` reads.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, int64_t count) {
    bytes[tile] = kUnitBytes;
    rows[tile] = static_cast<uint8_t>(count);
  }
};

inline void begin_tiles(const TileShapes& shapes) {
  asm volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
}

// Without it the system would save the registers at each switch from now on.
inline void end_tiles() { asm volatile("tilerelease"); }

template <int kTile>
inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}

// Rows stride bytes apart.
template <int kTile>
inline void load_tile(const void* rows, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
}

template <int kTile>
inline void store_tile(void* rows, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
