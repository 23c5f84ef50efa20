#include "../gemm.h"

#include "gemm_tile.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

namespace {

// A sum is cut twice: into blocks of one chain of multiply-adds, so that rounding errors grow
// with the block and the number of blocks, not with the depth (a weight gradient's is T*B);
// and into passes that keep a panel in L1 while all rows go by. Both depend on nothing but
// the depth, so they never change a row's bits.
constexpr int64_t kChain = 32;
constexpr int64_t kPass = 8 * kChain;

template <typename T>
int64_t panel_bytes(int64_t depth) {
  return depth * kPanelWidth<T> * sizeof(T);
}

template <typename T>
void pack(const PackSource<T>& b, int64_t depth, int64_t columns, void* panels) {
  constexpr int kWidth = kPanelWidth<T>;
  for (int64_t p = 0; p < panel_count<T>(columns); ++p) {
    const int64_t n0 = p * kWidth;
    const int64_t width = columns - n0 < kWidth ? columns - n0 : kWidth;
    T* panel = static_cast<T*>(panels) + p * depth * kWidth;
    for (int64_t k = 0; k < depth; ++k, panel += kWidth) {
      const T* row = b.rows ? b.rows[k] + n0 : b.data + k * b.k_stride + n0 * b.n_stride;
      const int64_t n_stride = b.rows ? 1 : b.n_stride;
      for (int64_t j = 0; j < width; ++j) panel[j] = row[j * n_stride];
      for (int64_t j = width; j < kWidth; ++j) panel[j] = 0;
    }
  }
}

template <typename T>
int64_t row_bytes(int64_t depth) {
  return depth * sizeof(T);
}

template <typename T>
void encode(const T* row, int64_t stride, int64_t depth, void* encoded) {
  T* to = static_cast<T*>(encoded);
  for (int64_t k = 0; k < depth; ++k) to[k] = row[k * stride];
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

template <typename T>
void multiply(const Gemm<T>& g, int64_t row_begin, int64_t row_end, int64_t panel_begin,
              int64_t panel_end) {
  constexpr int kWidth = kPanelWidth<T>;
  T tile[kTileRows * kWidth] = {};
  const T* a[kTileRows];
  const T* panels = static_cast<const T*>(g.panels);
  for (int64_t p = panel_begin; p < panel_end; ++p) {
    const int64_t n0 = p * kWidth;
    const int64_t width = g.columns - n0 < kWidth ? g.columns - n0 : kWidth;
    for (int64_t k0 = 0; k0 == 0 || k0 < g.depth; k0 += kPass) {
      const int64_t pass_end = k0 + kPass < g.depth ? k0 + kPass : g.depth;
      for (int64_t row = row_begin, height; row < row_end; row += height) {
        height = tile_height(row_end - row);
        for (int64_t k = k0; k == k0 || k < pass_end; k += kChain) {
          const int64_t chain = pass_end - k < kChain ? pass_end - k : kChain;
          for (int64_t m = 0; m < height; ++m)
            a[m] = static_cast<const T*>(g.a[row + m]) + k * g.a_stride;
          multiply_tiles<T>(
              {a, panels + (p * g.depth + k) * kWidth, chain, 0, tile, kWidth, k > k0, g.a_stride},
              height, 1);
        }
        finish_tile(g, row, height, n0, width, g.accumulate || k0 > 0, tile);
      }
    }
  }
}

}  // namespace

template <typename T>
ByWeightType<T, GemmKernels<T>> gemm_kernels() {
  return {{{kPanelWidth<T>, panel_bytes<T>, pack<T>, false, row_bytes<T>, encode<T>, multiply<T>}}};
}

template ByWeightType<float, GemmKernels<float>> gemm_kernels();
template ByWeightType<double, GemmKernels<double>> gemm_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
