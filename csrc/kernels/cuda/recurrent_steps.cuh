// What the recurrence is made of, forward and backward. A block owns a panel of units (8, with all
// their gates) of one direction and some tiles of rows. In a stage it multiplies each tile with
// the panel and finishes the panel's units. Its warps cut depth, not the tile: nothing is read
// twice, rows come straight from the L2 cache, and a chain of sums is short. Then they add up
// through shared memory.
//
// Where all blocks are resident at once, one launch makes all stages: the panel stays in shared
// memory, and the blocks that share rows meet after each stage. Where they are not, a stage is a
// launch, and panels are read from the L2 cache.
#pragma once

#include "../gru_cell.h"
#include "../lstm_cell.h"
#include "../rnn_cell.h"
#include "panels.cuh"

namespace seq2seq_ext::cuda {

constexpr int kStepThreads = 256, kStepWarps = kStepThreads / kWarp;

// Tiles of rows that a block takes together; the sums of MultiplyAdds take four times the
// registers.
template <class Math>
constexpr int kStepTiles = 2;
template <typename T>
constexpr int kStepTiles<MultiplyAdds<T>> = 1;
template <class Math>
constexpr int kStepRows = kStepTiles<Math> * kTileRows;

// body.template operator()<Cell>().
template <class Body>
__device__ void with_cell(CellKind kind, const Body& body) {
  switch (kind) {
    case CellKind::kLstm:
      return body.template operator()<LstmCell>();
    case CellKind::kGru:
      return body.template operator()<GruCell>();
    case CellKind::kRnnTanh:
      return body.template operator()<RnnCell<Tanh>>();
    default:
      return body.template operator()<RnnCell<Relu>>();
  }
}

// How the stages of a launch are shared among blocks: block = (direction, row group, panel).
struct StepGrid {
  int64_t panels, groups, first, last;  // stages [first, last)
  bool resident;                        // the main panel lies in shared memory

  __device__ int64_t panel() const { return block_index() % panels; }
  __device__ int64_t group() const { return block_index() / panels % groups; }
  __device__ int64_t direction() const { return block_index() / panels / groups; }
};

// One product of a stage: rows of A, one for each row of a tile (null: zeros), with a panel.
template <typename T>
struct StepProduct {
  int64_t depth;
  int gates;       // at most kGates of multiply
  const T* panel;  // in shared memory or not
  bool aligned;    // all rows of A begin on 16 bytes
};

// The sums of every warp, in shared memory: [warp][row][gate * 8 + unit].
template <class Math, int kGates>
struct StepSums {
  static constexpr int kColumns = kGates * kPanelRows;
  static constexpr int64_t kSize = int64_t{kStepWarps} * kStepRows<Math> * kColumns;
  typename Math::Sum* values;

  __device__ auto& at(int warp, int row, int column) const {
    return values[(warp * kStepRows<Math> + row) * kColumns + column];
  }
  // In the order of warps.
  __device__ auto total(int row, int column) const {
    auto sum = at(0, row, column);
#pragma unroll
    for (int w = 1; w < kStepWarps; ++w) sum += at(w, row, column);
    return sum;
  }
};

// A warp's sums of a tile, of so many gates, where all threads of the block see them.
template <class Math, int kGates>
__device__ void leave_sums(const typename Math::Sums (&sums)[kStepTiles<Math>][kGates], int gates,
                           const StepSums<Math, kGates>& out) {
  const int g = lane_index() / 4, q = lane_index() % 4;
  sync_block();  // everybody has read what lay here before
#pragma unroll
  for (int i = 0; i < kStepTiles<Math>; ++i)
#pragma unroll
    for (int gate = 0; gate < kGates; ++gate) {
      if (gate >= gates) break;
      typename Math::Sum result[4];
      Math::finish(sums[i][gate], result);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        out.at(warp_index(), i * kTileRows + g + j / 2 * 8, gate * kPanelRows + 2 * q + j % 2) =
            result[j];
    }
  sync_block();
}

// Leaves the product of a tile in sums. row(r): row r of A or null. All threads of the block.
template <class Math, int kGates, class Row>
__device__ void multiply_step(const StepProduct<typename Math::Value>& in,
                              const StepSums<Math, kGates>& out, const Row& row) {
  using T = typename Math::Value;
  constexpr int kTiles = kStepTiles<Math>;
  const int lane = lane_index(), g = lane / 4, q = lane % 4, warp = warp_index();
  const T* rows[kTiles][2];
#pragma unroll
  for (int i = 0; i < kTiles; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) rows[i][half] = row(i * kTileRows + g + half * 8);
  typename Math::Sums sums[kTiles][kGates];
  const int slabs = divide_up(in.depth, kSlab<T>);
  for (int s = warp; s < slabs; s += kStepWarps) {
    const int64_t k = int64_t{s} * kSlab<T> + q * Chunk<T>::kSize, n = in.depth - k;
    Chunk<T> a[kTiles][2];
#pragma unroll
    for (int i = 0; i < kTiles; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        a[i][half] = rows[i][half] ? load_part(rows[i][half] + k, n, in.aligned) : Chunk<T>{};
    const T* const slab = in.panel + int64_t{s} * in.gates * kPanelSlab<T>;
#pragma unroll
    for (int gate = 0; gate < kGates; ++gate) {
      if (gate >= in.gates) break;
      const typename Math::Panel panel = Math::panel(slab + gate * kPanelSlab<T>);
#pragma unroll
      for (int i = 0; i < kTiles; ++i) Math::multiply(sums[i][gate], a[i][0], a[i][1], panel);
    }
  }
  leave_sums(sums, in.gates, out);
}

// body(row of the tile, unit of the panel) for each pair, the same thread for the same pair in
// every stage: it alone reads and writes what belongs to the pair.
template <class Math, class Body>
__device__ void for_each_unit(const Body& body) {
  for (int i = thread_index(); i < kStepRows<Math> * kPanelRows; i += kStepThreads)
    body(i / kPanelRows, i % kPanelRows);
}

// Runs kernel.stage(stage, tile's first row, panel memory, sums) for all that the grid gives this
// block. A Kernel has grid, batch(), counters and main_panel(d, p), main_size().
template <class Math, class Kernel>
__device__ void run_stages(const Kernel& kernel, char* shared) {
  using T = typename Math::Value;
  const StepGrid& grid = kernel.grid;
  const int64_t d = grid.direction(), size = kernel.main_size();
  auto* const sums = reinterpret_cast<typename Math::Sum*>(shared);
  const T* panel = kernel.main_panel(d, grid.panel());
  if (grid.resident && panel) {
    auto* const kept = reinterpret_cast<Chunk<T>*>(sums + Kernel::Sums::kSize);
    for (int64_t i = thread_index(); i < size / Chunk<T>::kSize; i += kStepThreads)
      kept[i] = reinterpret_cast<const Chunk<T>*>(panel)[i];
    panel = reinterpret_cast<const T*>(kept);
    sync_block();
  }
  GridBarrier barrier(kernel.counters() + d * grid.groups + grid.group(), grid.panels);
  for (int64_t stage = grid.first; stage < grid.last; ++stage) {
    const int64_t rows = kernel.rows_of(stage);
    for (int64_t b = grid.group() * kStepRows<Math>; b < rows; b += grid.groups * kStepRows<Math>)
      kernel.run(stage, d, b, panel, typename Kernel::Sums{sums});
    if (stage + 1 < grid.last) barrier.wait();
  }
}

// One launch where the device holds it, else one a stage. stages: how many in all.
template <class Math, class Kernel>
void launch_stages(Kernel kernel, int64_t panels, int64_t stages, Stream stream) {
  if (kernel.in.ragged.batch == 0 || stages == 0) return;
  const int64_t directions = kernel.in.directions;
  const int64_t tiles = divide_up(kernel.in.ragged.batch, kStepRows<Math>);
  const int64_t sums = Kernel::Sums::kSize * sizeof(typename Math::Sum);
  const int64_t shared = sums + kernel.main_size() * sizeof(typename Math::Value);
  const int64_t groups = resident_blocks<Kernel>(shared) / (directions * panels);
  if (groups > 0) {
    kernel.grid = {panels, smaller(groups, tiles), 0, stages, true};
    launch_together(kernel, directions * kernel.grid.groups * panels, shared, stream);
    return;
  }
  for (int64_t stage = 0; stage < stages; ++stage) {
    kernel.grid = {panels, tiles, stage, stage + 1, false};
    launch(kernel, directions * tiles * panels, sums, stream);
  }
}

// Where everything of one direction is.
template <typename T>
struct StepPlace {
  const RaggedBatch& ragged;
  int64_t d;

  __device__ int64_t time(int64_t s, int64_t b) const {
    return d == 1 ? ragged.lengths[b] - 1 - s : s;
  }
  // Of step s, or of h_0 before the first.
  template <typename U>
  __device__ U* state(const Sequence<U>& sequence, int64_t s, int64_t b, int64_t size) const {
    return sequence.data + time(s, b) * sequence.time_stride +
           ragged.rows[b] * sequence.batch_stride + d * size;
  }
  // A slab of [D, B, size].
  template <typename U>
  __device__ U* row(U* data, int64_t b, int64_t size) const {
    return data + (d * ragged.batch + ragged.rows[b]) * size;
  }
};

template <typename T>
bool is_aligned(const T* data, int64_t stride) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride * sizeof(T) % 16 == 0;
}

}  // namespace seq2seq_ext::cuda
