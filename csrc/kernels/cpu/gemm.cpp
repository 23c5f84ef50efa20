#include "../gemm.h"

#include "gemm_tile.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

namespace {

// A sum of floats is cut twice: into blocks of one chain of multiply-adds, so that rounding
// errors grow with the block and the number of blocks, not with the depth (a weight gradient's
// is T*B); and into passes that keep a panel in L1 while all rows go by. Both depend on nothing
// but the depth, so they never change a row's bits. Encoded rows are one chain: their rounding
// is far behind the encoding's.
template <class W>
constexpr int64_t kChain = W::kEncodes ? int64_t{1} << 40 : 32;
template <class W>
constexpr int64_t kPass = 8 * kChain<W>;

template <class W>
void pack(const PackSource<typename W::T>& b, int64_t depth, int64_t columns, void* panels) {
  constexpr int kWidth = kPanelWidth<typename W::T>;
  for (int64_t n0 = 0; n0 < columns; n0 += kWidth) {
    const int64_t width = columns - n0 < kWidth ? columns - n0 : kWidth;
    if (b.rows)
      pack_panel<W>([&](int64_t k, int64_t j) { return b.rows[k][n0 + j]; }, depth, width, panels);
    else
      pack_panel<W>([from = b.data + n0 * b.n_stride, &b](
                        int64_t k, int64_t j) { return from[k * b.k_stride + j * b.n_stride]; },
                    depth, width, panels);
    panels = behind<char>(panels, panel_bytes<W>(depth));
  }
}

// Writes a finished tile to C, on top of what C holds or of the bias.
template <typename T>
void finish_tile(const Gemm<T>& g, int64_t row, int64_t height, int64_t n0, int64_t width,
                 bool from_c, const T* tile) {
  constexpr int kLanes = Simd<T>::kLanes;
  for (int64_t m = 0; m < height; ++m)
    for (int64_t j = 0; j < width; j += kLanes) {
      T* c = g.c[row + m] + n0 + j;
      Vec<T> sum = load(tile + m * kPanelWidth<T> + j);
      if (from_c)
        sum += load_n(c, width - j);
      else if (g.bias)
        sum += load_n(g.bias + n0 + j, width - j);
      store_n(c, sum, width - j);
    }
}

template <class W>
void multiply(const Gemm<typename W::T>& g, int64_t row_begin, int64_t row_end, int64_t panel_begin,
              int64_t panel_end) {
  using T = typename W::T;
  constexpr int kWidth = kPanelWidth<T>;
  T tile[kTileRows * kWidth] = {};
  const typename W::Row* a[kTileRows];
  const int64_t a_stride = W::kEncodes ? W::kRowStep : g.a_stride, bytes = panel_bytes<W>(g.depth);
  for (int64_t p = panel_begin; p < panel_end; ++p) {
    const int64_t n0 = p * kWidth;
    const int64_t width = g.columns - n0 < kWidth ? g.columns - n0 : kWidth;
    const auto* panel = behind<typename W::Stored>(g.panels, p * bytes + W::kPanelHead);
    for (int64_t k0 = 0; k0 == 0 || k0 < g.depth; k0 += kPass<W>) {
      const int64_t pass_end = smaller(k0 + kPass<W>, g.depth);
      for (int64_t row = row_begin, height; row < row_end; row += height) {
        height = tile_height(row_end - row);
        for (int64_t k = k0; k == k0 || k < pass_end; k += kChain<W>) {
          for (int64_t m = 0; m < height; ++m)
            a[m] = behind<typename W::Row>(g.a[row + m], W::kRowHead) + k / W::kGroup * a_stride;
          multiply_tiles<W>({a, panel + k * kWidth, groups<W>(smaller(kChain<W>, pass_end - k)), 0,
                             tile, kWidth, k > k0, a_stride},
                            height, 1);
        }
        finish_tile(g, row, height, n0, width, g.accumulate || k0 > 0, tile);
      }
    }
  }
}

}  // namespace

template <class W>
GemmKernels<typename W::T> gemm_kernels() {
  return {kPanelWidth<typename W::T>,
          panel_bytes<W>,
          pack<W>,
          W::kEncodes,
          row_bytes<W>,
          encode_row<W>,
          multiply<W>};
}

#define INSTANTIATE(W) template GemmKernels<W::T> gemm_kernels<W>();
SEQ2SEQ_EXT_FOR_WEIGHTS(INSTANTIATE)

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
