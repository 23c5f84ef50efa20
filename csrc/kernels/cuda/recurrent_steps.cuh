// What the recurrence is made of, forward and backward. A block owns some units (panels of 8, with
// all their gates) of one direction and some tiles of rows. In a stage it multiplies each tile with
// its panels and finishes its units. Its warps cut depth, not the tile: nothing is read twice, rows
// come straight from the L2 cache, and a chain of sums is short. Then they add up through shared
// memory.
//
// Where all blocks are resident at once, one launch makes all stages: panels stay in registers and
// shared memory (step_product.cuh), and the blocks that share rows meet after each stage. Where
// they are not, a stage is a launch, and panels are read from the L2 cache.
#pragma once

#include "../gru_cell.h"
#include "../lstm_cell.h"
#include "../rnn_cell.h"
#include "step_product.cuh"

namespace seq2seq_ext::cuda {

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

// How the stages of a launch are shared among blocks: block = (direction, row group, place), where
// a place is that of the block's panels.
struct StepGrid {
  int64_t directions, places, groups, first, last;  // stages [first, last)
  bool resident;                                    // panels lie in shared memory

  int64_t blocks() const { return directions * places * groups; }
  __device__ int64_t place() const { return block_index() % places; }
  __device__ int64_t group() const { return block_index() / places % groups; }
  __device__ int64_t direction() const { return block_index() / places / groups; }
};

// body(row of the tile, panel of the block, unit of the panel) for each, the same thread for the
// same three in every stage: it alone reads and writes what belongs to them.
template <class Shape, class Body>
__device__ void for_each_unit(const Body& body) {
  constexpr int kPairs = Shape::kRows * kPanelRows;
#pragma unroll 1
  for (int i = thread_index(); i < Shape::kPanels * kPairs; i += kStepThreads)
    body(i % kPairs / kPanelRows, i / kPairs, i % kPanelRows);
}

// Runs kernel.run(stage, direction, first row, panels, sums) for all that the grid gives this
// block. A Kernel has grid, counters, Shape, Sums, Held, main_panel(d, p), main_gates() and
// main_slabs().
template <class Kernel>
__device__ void run_stages(const Kernel& kernel, char* shared) {
  using Math = typename Kernel::Shape::Math;
  constexpr int kRows = Kernel::Shape::kRows;
  const StepGrid& grid = kernel.grid;
  const int64_t d = grid.direction();
  auto* const sums = reinterpret_cast<typename Math::Sum*>(shared);
  typename Kernel::Held held;
  held.take(
      [&](int64_t i) {
        const int64_t p = grid.place() * Kernel::Shape::kPanels;
        const auto* const panel = kernel.main_panel(d, p + i);
        return panel ? panel : kernel.main_panel(d, p);  // a last one alone is taken twice
      },
      kernel.main_gates(), kernel.main_slabs());
  if (grid.resident && held.rest[0]) held.move_rest(sums + Kernel::Sums::kSize);
  GridBarrier barrier(kernel.counters() + d * grid.groups + grid.group(), grid.places);
  for (int64_t stage = grid.first; stage < grid.last; ++stage) {
    const int64_t rows = kernel.rows_of(stage);
    for (int64_t b = grid.group() * kRows; b < rows; b += grid.groups * kRows)
      kernel.run(stage, d, b, held, typename Kernel::Sums{sums});
    if (stage + 1 < grid.last) barrier.wait();
  }
}
// What the stages of a launch are made of.
struct StageWork {
  int64_t directions, batch, panels, stages;
  bool can_hold;  // as a HeldShape asks
};

// All stages of a kernel in one launch, with as many groups of rows as the device holds at once.
template <class Kernel>
class ResidentStages {
 public:
  using Shape = typename Kernel::Shape;

  ResidentStages(const Kernel& kernel, const StageWork& work)
      : kernel_(kernel), batch_(work.batch) {
    const int64_t places = divide_up(work.panels, Shape::kPanels);
    const int64_t most = resident_blocks<Kernel>(shared_bytes()) / (work.directions * places);
    kernel_.grid = {work.directions, places, smaller(most, tiles()), 0, work.stages, true};
  }

  bool fits() const { return kernel_.grid.groups > 0; }
  // Of a block, one tile after the other.
  int64_t rows() const {
    return smaller(divide_up(tiles(), kernel_.grid.groups) * Shape::kRows, batch_);
  }
  // Whether it was launched.
  bool run(Stream stream) const {
    return fits() && launch_together(kernel_, kernel_.grid.blocks(), shared_bytes(), stream);
  }

 private:
  int64_t tiles() const { return divide_up(batch_, Shape::kRows); }
  int64_t shared_bytes() const {
    const int64_t rest = Kernel::Held::rest_bytes(kernel_.main_gates(), kernel_.main_slabs());
    return Kernel::Sums::kSize * sizeof(typename Shape::Math::Sum) + Shape::kPanels * rest;
  }

  Kernel kernel_;
  int64_t batch_;
};

// Whether it was launched. A wide block has twice the units of a narrow one: it loses nothing where
// it has half the rows.
template <class Narrow, class Wide>
bool launch_held(const Narrow& narrow_kernel, const Wide& wide_kernel, const StageWork& work,
                 Stream stream) {
  const ResidentStages<Narrow> narrow(narrow_kernel, work);
  const ResidentStages<Wide> wide(wide_kernel, work);
  if (wide.fits() && (!narrow.fits() || 2 * wide.rows() <= narrow.rows()))
    return wide.run(stream) || narrow.run(stream);
  return narrow.run(stream);
}

// One launch where the device holds it, else one a stage. make.template operator()<Shape>(): the
// kernel without a grid. kGates: most of the main panels.
template <class Math, int kGates, class Make>
void launch_stages(const StageWork& work, const Make& make, Stream stream) {
  if (work.batch == 0 || work.stages == 0) return;
  if constexpr (kCanHold<Math>)
    if (work.can_hold &&
        launch_held(make.template operator()<HeldShape<Math, 1, kGates>>(),
                    make.template operator()<HeldShape<Math, 2, kGates>>(), work, stream))
      return;
  auto kernel = make.template operator()<PlainShape<Math>>();
  using Kernel = decltype(kernel);
  if (ResidentStages<Kernel>(kernel, work).run(stream)) return;
  const int64_t tiles = divide_up(work.batch, Kernel::Shape::kRows);
  for (int64_t stage = 0; stage < work.stages; ++stage) {
    kernel.grid = {work.directions, work.panels, tiles, stage, stage + 1, false};
    launch(kernel, kernel.grid.blocks(), Kernel::Sums::kSize * sizeof(typename Math::Sum), stream);
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
