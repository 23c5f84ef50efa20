// One block's tile of C = A B^T: slabs of A and B pass through shared memory, some of them on
// their way while one is multiplied.
#pragma once

#include "fragments.cuh"
#include "gemm.h"

namespace seq2seq_ext::cuda {

template <typename T>
__device__ T* row_of(const PlacedRows<T>& rows, int64_t i) {
  const int64_t n = rows.places ? rows.places[i] : i;
  if (n == kNoRow) return nullptr;
  return rows.data + n / rows.inner * rows.outer_stride + n % rows.inner * rows.inner_stride;
}

constexpr int kGemmThreads = 256, kGemmWarpRows = 2, kGemmWarpColumns = 4;
static_assert(kGemmWarpRows * kGemmWarpColumns * kWarp == kGemmThreads);

// Tiles of 16 rows and panels of a warp. The sums of MultiplyAdds take four times the registers.
template <class Math>
struct WarpShape {
  static constexpr int kTiles = 4, kPanels = 4;
};
template <typename T>
struct WarpShape<MultiplyAdds<T>> {
  static constexpr int kTiles = 2, kPanels = 2;
};

template <class Math>
class GemmTile {
  using T = typename Math::Value;
  using Shape = WarpShape<Math>;

 public:
  static constexpr int kTiles = Shape::kTiles, kPanels = Shape::kPanels;
  static constexpr int kRows = kGemmWarpRows * kTiles * kTileRows;
  static constexpr int kColumns = kGemmWarpColumns * kPanels * kPanelRows;
  static constexpr int kStages = 3;
  static constexpr int64_t kShared = int64_t{kStages} * (kRows + kColumns) * kSlab<T> * sizeof(T);
  using Sum = typename Math::Sum;

  // Rows from first_row on, columns from first_column on.
  __device__ GemmTile(const Gemm<T>& in, bool aligned, int64_t first_row, int64_t first_column,
                      char* shared)
      : in_(in), aligned_(aligned), shared_(reinterpret_cast<T*>(shared)) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int64_t row = i * kRowsAtOnce + thread_index() / kSlabChunks;
      const int64_t m = first_row + row, n = first_column + row - kRows;
      rows_[i] = nullptr;
      if (row < kRows && m < in.rows) rows_[i] = row_of(in.a, m);
      if (row >= kRows && n < in.columns) rows_[i] = in.b + n * in.b_stride;
    }
  }

  // To be called once, by all threads; shared memory is free behind it.
  __device__ void multiply() {
    const int slabs = divide_up(in_.depth, kSlab<T>);
    for (int s = 0; s < kStages - 1; ++s) fetch(s, s, slabs);
    for (int s = 0, stage = 0; s < slabs; ++s) {
      wait_copies<kStages - 2>();
      sync_block();
      fetch(s + kStages - 1, stage == 0 ? kStages - 1 : stage - 1, slabs);
      multiply_slab(shared_ + stage * kStage);
      stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    wait_copies<0>();
    sync_block();
  }

  // body(row, column, value) for this thread's part of the tile; places count from its corner.
  template <class Body>
  __device__ void for_each(const Body& body) const {
    const int lane = lane_index(), g = lane / 4, q = lane % 4;
#pragma unroll
    for (int i = 0; i < kTiles; ++i)
#pragma unroll
      for (int j = 0; j < kPanels; ++j) {
        Sum result[4];
        Math::finish(sums_[i][j], result);
#pragma unroll
        for (int k = 0; k < 4; ++k)
          body((first_tile() + i) * kTileRows + g + k / 2 * 8,
               (first_panel() + j) * kPanelRows + 2 * q + k % 2, result[k]);
      }
  }

 private:
  static constexpr int kStage = (kRows + kColumns) * kSlab<T>;
  static constexpr int kRowsAtOnce = kGemmThreads / kSlabChunks;
  static constexpr int kCopies = (kRows + kColumns) / kRowsAtOnce;
  static_assert((kRows + kColumns) % kRowsAtOnce == 0);

  __device__ static int first_tile() { return warp_index() / kGemmWarpColumns * kTiles; }
  __device__ static int first_panel() { return warp_index() % kGemmWarpColumns * kPanels; }

  // Slab s, on its way to its stage. A group of copies even where there is none, for the count.
  __device__ void fetch(int s, int stage, int slabs) {
    if (s < slabs) {
      const int q = thread_index() % kSlabChunks;
      const int64_t k = int64_t{s} * kSlab<T> + q * Chunk<T>::kSize, n = in_.depth - k;
      Chunk<T>* const to = reinterpret_cast<Chunk<T>*>(shared_ + stage * kStage);
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        Chunk<T>* const chunk = to + i * kGemmThreads + thread_index();
        const T* const from = rows_[i] + k;
        if (rows_[i] && aligned_ && n >= Chunk<T>::kSize)
          copy_async(chunk, reinterpret_cast<const Chunk<T>*>(from));
        else
          *chunk = rows_[i] ? load_part(from, n, false) : Chunk<T>{};
      }
    }
    commit_copies();
  }

  __device__ void multiply_slab(const T* stage) {
    const int lane = lane_index(), g = lane / 4, q = lane % 4;
    const Chunk<T>* const a = reinterpret_cast<const Chunk<T>*>(stage);
    typename Math::Panel panels[kPanels];
#pragma unroll
    for (int j = 0; j < kPanels; ++j)
      panels[j] = Math::panel(stage + kRows * kSlab<T> + (first_panel() + j) * kPanelSlab<T>);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int row = (first_tile() + i) * kTileRows + g;
      const Chunk<T> low = a[row * kSlabChunks + q], high = a[(row + 8) * kSlabChunks + q];
#pragma unroll
      for (int j = 0; j < kPanels; ++j) Math::multiply(sums_[i][j], low, high, panels[j]);
    }
  }

  const Gemm<T>& in_;
  const bool aligned_;
  T* const shared_;
  const T* rows_[kCopies];  // of which this thread copies a chunk a slab, A's and then B's
  typename Math::Sums sums_[kTiles][kPanels];
};

// Whether all chunks of A and B lie on 16 bytes.
template <typename T>
bool is_aligned(const Gemm<T>& in) {
  const auto fits = [](const T* data, int64_t stride) {
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride * sizeof(T) % 16 == 0;
  };
  return fits(in.a.data, in.a.outer_stride) && fits(in.a.data, in.a.inner_stride) &&
         fits(in.b, in.b_stride);
}

}  // namespace seq2seq_ext::cuda
