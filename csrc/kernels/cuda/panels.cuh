// Weights in the order in which warps read them: panels of 8 rows, of all gates of 8 units where
// there are gates; in a panel a slab of depth after the other, zeros where the matrix ends. What
// a block needs lies in one piece, in shared memory too, without conflicts between banks.
#pragma once

#include "../gru_cell.h"
#include "fragments.cuh"
#include "recurrent.h"

namespace seq2seq_ext::cuda {

__host__ __device__ constexpr int64_t panels_of(int64_t rows) {
  return divide_up(rows, kPanelRows);
}

// Values of one panel of `gates` times 8 rows.
template <typename T>
__host__ __device__ constexpr int64_t panel_size(int64_t gates, int64_t depth) {
  return gates * kPanelSlab<T> * divide_up(depth, kSlab<T>);
}

// Bytes in whole lines of 64, as slabs are.
inline int64_t lines(int64_t bytes) { return divide_up(bytes, 64) * 64; }

inline int64_t panel_bytes(int64_t units, int64_t gates, int64_t depth, int64_t value) {
  return panels_of(units) * gates * kPanelRows * lines(depth * value);
}

// A matrix [gates * units, depth] to be cut into panels; its element (r, k) is
// data[r * row_stride + k * depth_stride].
template <typename T>
struct PanelSource {
  const T* data;
  int64_t row_stride, depth_stride, gates, units, depth;

  int64_t panels() const { return panels_of(units); }
};

template <typename T>
struct PanelKernel {
  static constexpr int kThreads = 256, kBlocksPerSm = 1;
  PanelSource<T> in;
  T* panels;

  __device__ void operator()(char*) const {
    const int64_t i = block_index() * kThreads + thread_index();
    const int64_t size = panel_size<T>(in.gates, in.depth);
    if (i >= divide_up(in.units, kPanelRows) * size) return;
    const int64_t slab = i % size / (in.gates * kPanelSlab<T>);
    const int64_t row = i / kSlab<T> % (in.gates * kPanelRows);
    const int64_t unit = i / size * kPanelRows + row % kPanelRows;
    const int64_t k = slab * kSlab<T> + i % kSlab<T>;
    const bool real = unit < in.units && k < in.depth;
    const int64_t r = row / kPanelRows * in.units + unit;
    panels[i] = real ? in.data[r * in.row_stride + k * in.depth_stride] : from_acc<T>(0);
  }
};

template <typename T>
void pack_panels(const PanelSource<T>& in, T* panels, Stream stream) {
  const int64_t values = in.panels() * panel_size<T>(in.gates, in.depth);
  launch(PanelKernel<T>{in, panels}, divide_up(values, PanelKernel<T>::kThreads), 0, stream);
}

template <typename T>
struct BiasKernel {
  static constexpr int kThreads = 256, kBlocksPerSm = 1;
  CellKind cell;
  const T *bias_ih, *bias_hh;  // or null
  int64_t rows, hidden;
  Acc<T>*bias_x, *bias_h;

  __device__ void operator()(char*) const {
    const int64_t i = block_index() * kThreads + thread_index();
    if (i >= rows) return;
    const Acc<T> x = bias_ih ? to_acc(bias_ih[i]) : Acc<T>(0);
    const Acc<T> h = bias_hh ? to_acc(bias_hh[i]) : Acc<T>(0);
    const bool split = cell == CellKind::kGru && GruCell::gate_is_split(i / hidden);
    bias_x[i] = split ? x : x + h;
    bias_h[i] = split ? h : Acc<T>(0);
  }
};

}  // namespace seq2seq_ext::cuda
