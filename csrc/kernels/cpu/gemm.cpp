#include "../gemm.h"

#include "gemm_blocks.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

namespace {

template <class W>
void pack(const PackSource<typename W::T>& b, int64_t depth, int64_t columns, void* panels) {
  constexpr int kWidth = kPanelWidth<typename W::T>;
  for (int64_t n0 = 0; n0 < columns; n0 += kWidth) {
    const int64_t width = columns - n0 < kWidth ? columns - n0 : kWidth;
    if (b.rows) {
      // Two lines of each, and rows lie anywhere: nothing that the hardware foresees.
      for (int64_t k = 0; k < depth; ++k) ask_for<0, kWidth>(b.rows[k] + n0);
      pack_panel<W>([&](int64_t k, int64_t j) { return b.rows[k][n0 + j]; }, depth, width, panels);
    } else if (b.k_stride == 1) {
      pack_panel<W>(Columns<typename W::T>{b.data + n0 * b.n_stride, b.n_stride}, depth, width,
                    panels);
    } else {
      pack_panel<W>([from = b.data + n0, stride = b.k_stride](
                        int64_t k, int64_t j) { return from[k * stride + j]; },
                    depth, width, panels);
    }
    panels = behind<char>(panels, panel_bytes<W>(depth));
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
          turn_columns<typename W::T>,
          multiply<W>};
}

#define INSTANTIATE(W) template GemmKernels<W::T> gemm_kernels<W>();
SEQ2SEQ_EXT_FOR_WEIGHTS(INSTANTIATE)

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
