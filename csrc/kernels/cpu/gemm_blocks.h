// The plain GEMM over the micro-kernel: in which order tiles are computed, and how a long sum is
// cut.
#pragma once

#include "../gemm.h"
#include "../team.h"
#include "gemm_tile.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

// A sum of floats is cut twice: into chains of multiply-adds, so that rounding errors grow with
// the chain and the number of chains, not with the depth (a weight gradient's is T*B); and into
// passes, so that the strips of a block of rows stay in L2. Encoded rows are one chain: their
// rounding is far behind the encoding's.
template <class W>
constexpr int64_t kChain = W::kEncodes ? int64_t{1} << 40 : 64;
template <class W>
constexpr int64_t kPass = W::kEncodes ? kChain<W> : 2048 / sizeof(typename W::T);

// Rows that a panel's part is read for at a time.
constexpr int64_t kBlockRows = 16 * kTileRows;

// Panels that a block of rows takes at a time: the tile unit has to be told its shapes anew for
// each tile.
template <class W>
constexpr int64_t kBlockPanels = W::kInTileUnit ? 4 : 1;

// From one row of a tile to the next.
template <class W>
constexpr int64_t kTileStride = kBlockPanels<W> * kPanelWidth<typename W::T>;

// Writes a finished tile to C, on top of what C holds or of the bias.
template <class W, typename T = typename W::T>
void finish_tile(const Gemm<T>& g, int64_t row, int64_t height, int64_t n0, int64_t width,
                 bool from_c, const T* tile) {
  constexpr int kLanes = Simd<T>::kLanes;
  for (int64_t m = 0; m < height; ++m)
    for (int64_t j = 0; j < width; j += kLanes) {
      T* c = g.c[row + m] + n0 + j;
      Vec<T> sum = load(tile + m * kTileStride<W> + j);
      if (from_c)
        sum += load_n(c, width - j);
      else if (g.bias)
        sum += load_n(g.bias + n0 + j, width - j);
      store_n(c, sum, width - j);
    }
}

// What a call keeps on its stack.
template <class W>
struct Scratch {
  using T = typename W::T;
  alignas(64) T strips[W::kEncodes ? 1 : kBlockRows * kPass<W>];
  T tile[kTileRows * kTileStride<W>];
};

// Rows [begin, end) at a tile's height, one pass, at most kBlockPanels.
template <class W>
void multiply_panels(const Gemm<typename W::T>& g, const Share& rows, int64_t k0,
                     const Share& panels, Scratch<W>& scratch) {
  using T = typename W::T;
  constexpr int kWidth = kPanelWidth<T>;
  const int64_t count = panels.end - panels.begin, bytes = panel_bytes<W>(g.depth);
  const int64_t n0 = panels.begin * kWidth, width = smaller(count * kWidth, g.columns - n0);
  const int64_t depth = smaller(kPass<W>, g.depth - k0);
  const auto* panel = behind<typename W::Stored>(g.panels, panels.begin * bytes + W::kPanelHead);
  for (int64_t row = rows.begin, height; row < rows.end; row += height) {
    height = tile_height(rows.end - row);
    const typename W::Row* a = W::kEncodes ? behind<typename W::Row>(g.a[row], W::kRowHead)
                                           : find_row<W>(scratch.strips, row - rows.begin, depth);
    for (int64_t m = 0; m < height; ++m) ask_for<1, kWidth>(g.c[row + m] + n0);
    // The last rows ask for the next panel's part.
    const int64_t ahead = row + height < rows.end ? kPrefetch : bytes;
    const int64_t a_stride = height > 1 ? bytes_between(g.a[row], g.a[row + 1]) : 0;
    multiply_tiles<W>({a, a_stride, panel + k0 * kWidth, groups<W>(depth), bytes, scratch.tile,
                       kTileStride<W>, nullptr, 0, kChain<W>, ahead},
                      height, count);
    finish_tile<W>(g, row, height, n0, width, g.accumulate || k0 > 0, scratch.tile);
  }
}

// The strips of a block of rows for one pass.
template <typename T>
void prepare_block(const Gemm<T>& g, const Share& rows, int64_t k0, int64_t depth, T* strips) {
  const auto at = [&](int64_t i) {
    return static_cast<const T*>(g.a[rows.begin + i]) + k0 * g.a_stride;
  };
  if (g.a_stride == 1)
    copy_to_strips(at, rows.end - rows.begin, depth, strips);
  else
    copy_columns_to_strips(at(0), g.a_stride, rows.end - rows.begin, depth, strips);
}

// GemmKernels::multiply.
template <class W>
void multiply(const Gemm<typename W::T>& g, int64_t row_begin, int64_t row_end, int64_t panel_begin,
              int64_t panel_end) {
  Scratch<W> scratch;
  for (int64_t row = row_begin; row < row_end; row += kBlockRows)
    for (int64_t k0 = 0; k0 == 0 || k0 < g.depth; k0 += kPass<W>) {
      const Share rows{row, smaller(row + kBlockRows, row_end)};
      if constexpr (!W::kEncodes)
        prepare_block(g, rows, k0, smaller(kPass<W>, g.depth - k0), scratch.strips);
      for (int64_t p = panel_begin; p < panel_end; p += kBlockPanels<W>)
        multiply_panels(g, rows, k0, {p, smaller(p + kBlockPanels<W>, panel_end)}, scratch);
    }
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
