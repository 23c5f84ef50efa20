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

// Bytes of the panels that a block of rows takes at a time: they stay in L2 with the rows, where
// vectors multiply no faster than L2 gives; the tile unit wants what it can of them from L1.
template <class W>
constexpr int64_t kBlockBytes = W::kInTileUnit ? 1 << 16 : 1 << 19;

// Panels that a tile takes at a time, at most: the tile unit has to be told its shapes anew for
// each tile, and few rows wait for memory, of which several panels bring more at once.
constexpr int64_t kTilePanels = 4;
template <class W>
constexpr int64_t tile_panels(int64_t rows) {
  return W::kInTileUnit ? kTilePanels : panels_at_once(rows);
}

// From one row of a tile to the next.
template <class W>
constexpr int64_t kTileStride = kTilePanels * kPanelWidth<typename W::T>;

// Panels of a block in a pass of that depth.
template <class W>
constexpr int64_t block_panels(int64_t depth) {
  const int64_t bytes = kTilePanels * panel_bytes<W>(depth);
  return kTilePanels * (0 < bytes && bytes < kBlockBytes<W> ? kBlockBytes<W> / bytes : 1);
}

// A product's working state: about the size of a block of rows, on the stack.
template <class W>
class Product {
  using T = typename W::T;
  using Row = typename W::Row;
  static constexpr int kLanes = Simd<T>::kLanes, kWidth = kPanelWidth<T>;

 public:
  explicit Product(const Gemm<T>& g) : g_(g) {}

  void run(const Share& rows, const Share& panels) {
    for (int64_t row = rows.begin; row < rows.end; row += kBlockRows)
      for (begin_ = 0; begin_ == 0 || begin_ < g_.depth; begin_ += kPass<W>) {
        depth_ = smaller(kPass<W>, g_.depth - begin_);
        const Share block{row, smaller(row + kBlockRows, rows.end)};
        if constexpr (!W::kEncodes) prepare(block);
        const int64_t step = block_panels<W>(depth_);
        for (int64_t panel = panels.begin; panel < panels.end; panel += step)
          multiply_block(block, {panel, smaller(panel + step, panels.end)});
      }
  }

 private:
  // This pass's part of a block of rows.
  void prepare(const Share& rows) {
    const int64_t count = rows.end - rows.begin;
    const auto at = [&](int64_t i) {
      return static_cast<const T*>(g_.a[rows.begin + i]) + begin_ * g_.a_stride;
    };
    if (g_.a_stride == 1)
      copy_to_strips(at, count, depth_, strips_);
    else
      copy_columns_to_strips(at(0), g_.a_stride, count, depth_, strips_);
  }

  // Tile by tile of rows, each of which stays in L1.
  void multiply_block(const Share& rows, const Share& panels) {
    const int64_t bytes = panel_bytes<W>(g_.depth);
    for (int64_t row = rows.begin, height; row < rows.end; row += height) {
      height = tile_height(rows.end - row);
      Tile<W> tile{rows_of_tile(rows, row),
                   height > 1 ? bytes_between(g_.a[row], g_.a[row + 1]) : 0,
                   nullptr,
                   groups<W>(depth_),
                   bytes,
                   tile_,
                   kTileStride<W>,
                   nullptr,
                   0,
                   kChain<W>};
      // The last of many rows ask for the next block.
      if (row > rows.begin && row + height == rows.end)
        tile.ahead = (panels.end - panels.begin) * bytes;
      for (int64_t panel = panels.begin, count; panel < panels.end; panel += count) {
        count = smaller(tile_panels<W>(height), panels.end - panel);
        tile.panels =
            behind<typename W::Stored>(g_.panels, panel * bytes + W::kPanelHead) + begin_ * kWidth;
        for (int64_t m = 0; m < height; ++m) ask_for<1, kWidth>(g_.c[row + m] + panel * kWidth);
        if constexpr (W::kEncodes) {
          count = smaller(count, g_.columns / kWidth - panel);
          if (count > 0) {
            multiply_onto(tile, row, height, panel, count);
            continue;
          }
          count = 1;
        }
        tile.c = tile_, tile.c_stride = kTileStride<W>, tile.onto = nullptr;
        multiply_tiles<W>(tile, height, count);
        for (int64_t i = 0; i < count; ++i)
          finish(row, height, (panel + i) * kWidth, tile_ + i * kWidth);
      }
    }
  }

  // Whole panels of a sum that is one chain need no look at the sum before they lie in C, where its
  // rows are as far apart as a tile's have to be.
  void multiply_onto(Tile<W>& tile, int64_t row, int64_t height, int64_t panel, int64_t count) {
    T* const* const c = g_.c + row;
    const int64_t column = panel * kWidth, width = count * kWidth;
    const int64_t stride = height > 1 ? c[1] - c[0] : 0;
    bool is_even = true;
    for (int64_t m = 2; m < height; ++m) is_even &= c[m] - c[m - 1] == stride;
    tile.c = is_even ? c[0] + column : tile_;
    tile.c_stride = is_even ? stride : kTileStride<W>;
    tile.onto = g_.accumulate ? tile.c : g_.bias ? g_.bias + column : nullptr;
    tile.onto_stride = g_.accumulate ? tile.c_stride : 0;
    const auto copy = [width](const T* from, T* to) {
      for (int64_t j = 0; j < width; j += kLanes) store(to + j, load(from + j));
    };
    if (!is_even && g_.accumulate)
      for (int64_t m = 0; m < height; ++m) copy(c[m] + column, tile_ + m * kTileStride<W>);
    multiply_tiles<W>(tile, height, count);
    if (!is_even)
      for (int64_t m = 0; m < height; ++m) copy(tile_ + m * kTileStride<W>, c[m] + column);
  }

  const Row* rows_of_tile(const Share& block, int64_t row) const {
    return W::kEncodes ? behind<Row>(g_.a[row], W::kRowHead)
                       : find_row<W>(strips_, row - block.begin, depth_);
  }

  // Writes what a tile has of one panel to C: on top of what C holds, or of the bias.
  void finish(int64_t row, int64_t height, int64_t n0, const T* tile) const {
    if (n0 + kWidth > g_.columns) return finish_last(row, height, n0, tile);
    if (from_c())
      write(row, height, n0, tile, [](const T* c, int64_t j) { return load(c + j); });
    else if (g_.bias)
      write(row, height, n0, tile,
            [bias = g_.bias + n0](const T*, int64_t j) { return load(bias + j); });
    else
      for (int64_t m = 0; m < height; ++m, tile += kTileStride<W>)
        for (int j = 0; j < kWidth; j += kLanes) store(g_.c[row + m] + n0 + j, load(tile + j));
  }

  template <class Onto>
  void write(int64_t row, int64_t height, int64_t n0, const T* tile, const Onto& onto) const {
    for (int64_t m = 0; m < height; ++m, tile += kTileStride<W>) {
      T* const c = g_.c[row + m] + n0;
      for (int j = 0; j < kWidth; j += kLanes) store(c + j, load(tile + j) + onto(c, j));
    }
  }

  // The columns end in this panel.
  void finish_last(int64_t row, int64_t height, int64_t n0, const T* tile) const {
    for (int64_t m = 0; m < height; ++m, tile += kTileStride<W>)
      for (int64_t j = 0, n; (n = g_.columns - n0 - j) > 0; j += kLanes) {
        T* const c = g_.c[row + m] + n0 + j;
        Vec<T> sum = load(tile + j);
        if (from_c())
          sum += load_n(c, n);
        else if (g_.bias)
          sum += load_n(g_.bias + n0 + j, n);
        store_n(c, sum, n);
      }
  }
  bool from_c() const { return g_.accumulate || begin_ > 0; }

  const Gemm<T>& g_;
  int64_t begin_ = 0, depth_ = 0;  // of the pass
  alignas(64) T strips_[W::kEncodes ? 1 : kBlockRows * kPass<W>];
  T tile_[kTileRows * kTileStride<W>];
};

// GemmKernels::multiply.
template <class W>
void multiply(const Gemm<typename W::T>& g, int64_t row_begin, int64_t row_end, int64_t panel_begin,
              int64_t panel_end) {
  Product<W>(g).run({row_begin, row_end}, {panel_begin, panel_end});
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
