// The product of a stage: tiles of rows with a block's panels, depth cut among its warps. Warp w
// takes slabs w, w + 8, w + 16, ... of every panel, and so it can keep the first of them in its
// registers from stage to stage, as operands of its instructions; the others lie in shared memory.
//
// What that holds, of an LSTM, whose panels are 32 rows of weights. A thread keeps 96 of its 255
// registers of a block of two panels: 96 KiB. Beside them lie shared memory's 227 KiB (A100: 163)
// less 36 of sums. So H * 64 * sizeof(T) <= 287 KiB (223): H <= 2296 (1784) in 16 bits, 1148 (892)
// in TF32. Such a block takes a multiprocessor for itself, so 132 of them hold 2112 units of all
// directions together (A100, 108: 1728): H = 2048 or both directions of H = 1024, the latter in
// TF32 too; on an A100 both of H = 768. Shared memory alone, with two blocks of one panel on a
// multiprocessor, would end at 73 KiB a panel: H = 1168, and 584.
//
// The other gain is in what a step reads. All rows of the state come to every block from the L2
// cache, at most 64 bytes a clock and multiprocessor: 64 rows of H = 1024 in 16 bits are 128 KiB or
// 2048 clocks for a block of two panels, where two blocks of one panel read them twice; backward,
// where a row is 4 H long, they are 8192. Shared memory gives 128 bytes a clock, and a panel is
// read from it once a tile: these 4 tiles would take 4096 clocks, of which registers save 3/4.
#pragma once

#include "panels.cuh"

namespace seq2seq_ext::cuda {

constexpr int kStepThreads = 256, kStepWarps = kStepThreads / kWarp;

// What a block takes at once: so many panels, so many tiles of rows. kKept: slabs of each panel
// that a warp keeps in registers.
template <class MathOfShape, int kPanelsOfShape, int kTilesOfShape, int kKeptOfShape>
struct StepShape {
  using Math = MathOfShape;
  static constexpr int kPanels = kPanelsOfShape, kTiles = kTilesOfShape, kKept = kKeptOfShape;
  static constexpr int kRows = kTiles * kTileRows;
  // Slabs of rows on their way together: 24 or 32 KiB, what the L2 cache gives in the 400 or 500
  // clocks that it takes to answer.
  static constexpr int kAhead = kKept ? 4 - kTiles : 1;
};

// The sums of MultiplyAdds take four times the registers.
template <class Math>
constexpr int kStepTiles = 2;
template <typename T>
constexpr int kStepTiles<MultiplyAdds<T>> = 1;
template <class Math>
using PlainShape = StepShape<Math, 1, kStepTiles<Math>, 0>;

// Rows must begin on 16 bytes and fill their chunks. Only the panels of tensor cores can be held:
// a lane of MultiplyAdds would need all 8 rows of a panel's slab.
template <class Math, int kPanels, int kGates>
using HeldShape = StepShape<Math, kPanels, 2 / kPanels, 12 / kGates>;
template <class Math>
constexpr bool kCanHold = false;
template <typename T>
constexpr bool kCanHold<TensorCores<T>> = true;

// The panels of a block while it lives.
template <class Shape, int kGates>
struct HeldPanels {
  using Math = typename Shape::Math;
  using T = typename Math::Value;
  static constexpr int kKept = Shape::kKept, kFirst = kKept * kStepWarps;  // slab of rest

  int gates, slabs;
  typename Math::Panel kept[kKept ? kKept : 1][Shape::kPanels][kGates];
  const T* rest[Shape::kPanels];  // slabs from kFirst on; where panels lie, or in shared memory

  // panel(i): the i-th, cut as panels.cuh has it.
  template <class Panel>
  __device__ void take(const Panel& panel, int panel_gates, int panel_slabs) {
    gates = panel_gates, slabs = panel_slabs;
#pragma unroll
    for (int p = 0; p < Shape::kPanels; ++p) {
      const T* const from = panel(p);
      rest[p] = from + (slabs > kFirst ? kFirst * slab_size() : 0);
#pragma unroll
      for (int i = 0; i < kKept; ++i) {
        const int slab = i * kStepWarps + warp_index();
#pragma unroll
        for (int gate = 0; gate < kGates; ++gate)
          if (gate < gates && slab < slabs)
            kept[i][p][gate] = Math::panel(from + slab * slab_size() + gate * kPanelSlab<T>);
      }
    }
  }

  // Of one panel, in shared memory.
  static int64_t rest_bytes(int gates, int slabs) {
    return slabs > kFirst ? int64_t{slabs - kFirst} * gates * kPanelSlab<T> * sizeof(T) : 0;
  }
  __device__ void move_rest(void* shared) {
    const int64_t chunks = slabs > kFirst ? (slabs - kFirst) * slab_size() / Chunk<T>::kSize : 0;
    auto* const to = static_cast<Chunk<T>*>(shared);
#pragma unroll
    for (int p = 0; p < Shape::kPanels; ++p) {
      for (int64_t i = thread_index(); i < chunks; i += kStepThreads)
        to[p * chunks + i] = reinterpret_cast<const Chunk<T>*>(rest[p])[i];
      rest[p] = reinterpret_cast<const T*>(to + p * chunks);
    }
    sync_block();
  }

  // Slabs of this warp.
  __device__ int of_warp() const { return (slabs - warp_index() + kStepWarps - 1) / kStepWarps; }
  // Of this warp's i-th slab.
  __device__ typename Math::Panel of_rest(int i, int p, int gate) const {
    const int slab = (i - kKept) * kStepWarps + warp_index();
    return Math::panel(rest[p] + slab * slab_size() + gate * kPanelSlab<T>);
  }

 private:
  __device__ int64_t slab_size() const { return int64_t{gates} * kPanelSlab<T>; }
};

// The sums of every warp, in shared memory: [warp][row][panel, gate, unit]. Rows lie an odd number
// of times 8 apart, so that neither who writes nor who reads meets others in a bank.
template <class Shape, int kGates>
struct StepSums {
  using Sum = typename Shape::Math::Sum;
  static constexpr int kColumns = Shape::kPanels * kGates * kPanelRows;
  static constexpr int kStride = kColumns % 16 ? kColumns : kColumns + 8;
  static constexpr int64_t kSize = int64_t{kStepWarps} * Shape::kRows * kStride;
  struct alignas(2 * sizeof(Sum)) Pair {
    Sum first, second;
  };
  Sum* values;

  __device__ static int column(int panel, int gate, int unit) {
    return (panel * kGates + gate) * kPanelRows + unit;
  }
  __device__ void set(int row, int column, Sum first, Sum second) const {
    *reinterpret_cast<Pair*>(values + (warp_index() * Shape::kRows + row) * kStride + column) = {
        first, second};
  }
  // In the order of warps.
  __device__ Sum total(int row, int column) const {
    const Sum* const from = values + row * kStride + column;
    Sum sum = *from;
#pragma unroll
    for (int w = 1; w < kStepWarps; ++w) sum += from[w * Shape::kRows * kStride];
    return sum;
  }
};

// A warp's sums of a tile.
template <class Shape, int kGates>
using WarpSums = typename Shape::Math::Sums[Shape::kPanels][Shape::kTiles][kGates];

// Puts them, of so many gates, where all threads of the block see them.
template <class Shape, int kGates>
__device__ void leave_sums(const WarpSums<Shape, kGates>& sums, int gates,
                           const StepSums<Shape, kGates>& out) {
  const int g = lane_index() / 4, q = lane_index() % 4;
  sync_block();  // everybody has read what lay here before
#pragma unroll
  for (int p = 0; p < Shape::kPanels; ++p)
#pragma unroll
    for (int i = 0; i < Shape::kTiles; ++i)
#pragma unroll
      for (int gate = 0; gate < kGates; ++gate) {
        if (gate >= gates) break;
        typename Shape::Math::Sum result[4];
        Shape::Math::finish(sums[p][i][gate], result);
        const int row = i * kTileRows + g, column = out.column(p, gate, 2 * q);
        out.set(row, column, result[0], result[1]);
        out.set(row + 8, column, result[2], result[3]);
      }
  sync_block();
}

// A lane's part of a tile: rows g and g + 8 of each 16, or null, from its chunk of the warp's first
// slab on.
template <class Shape>
struct StepTile {
  using T = typename Shape::Math::Value;
  static constexpr int kTiles = Shape::kTiles, kStep = kStepWarps * kSlab<T>;
  struct Slab {
    Chunk<T> rows[kTiles][2];
  };

  const T* rows[kTiles][2];
  int left;      // of depth
  bool aligned;  // all rows begin on 16 bytes

  // row(r): row r of A or null.
  template <class Row>
  __device__ StepTile(int64_t depth, bool aligned, const Row& row) : aligned(aligned) {
    const int first = warp_index() * kSlab<T> + lane_index() % 4 * Chunk<T>::kSize;
    left = static_cast<int>(depth) - first;
#pragma unroll
    for (int i = 0; i < kTiles; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const T* const from = row(i * kTileRows + lane_index() / 4 + half * 8);
        rows[i][half] = from ? from + first : nullptr;
      }
  }

  // The i-th slab of this warp.
  __device__ void load(int i, Slab& to) const {
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const T* const from = rows[t][half] + i * kStep;
        if (!rows[t][half] || (Shape::kKept && left <= i * kStep))
          to.rows[t][half] = Chunk<T>{};
        else if (Shape::kKept)
          to.rows[t][half] = load_fresh(reinterpret_cast<const Chunk<T>*>(from));
        else
          to.rows[t][half] = load_part(from, left - i * kStep, aligned);
      }
  }
};

// The next kAhead slabs of this warp from its `first` on. weights(i, panel, gate): of the i-th.
template <class Shape, int kGates, class Weights>
__device__ void multiply_slabs(const StepTile<Shape>& tile, const HeldPanels<Shape, kGates>& held,
                               int first, const Weights& weights, WarpSums<Shape, kGates>& sums) {
  typename StepTile<Shape>::Slab a[Shape::kAhead];
  const int count = held.of_warp() - first;
#pragma unroll
  for (int i = 0; i < Shape::kAhead; ++i)
    if (i < count) tile.load(first + i, a[i]);
#pragma unroll
  for (int i = 0; i < Shape::kAhead; ++i) {
    if (i >= count) break;
#pragma unroll
    for (int p = 0; p < Shape::kPanels; ++p)
#pragma unroll
      for (int gate = 0; gate < kGates; ++gate) {
        if (gate >= held.gates) break;
        const typename Shape::Math::Panel b = weights(first + i, p, gate);
#pragma unroll
        for (int t = 0; t < Shape::kTiles; ++t)
          Shape::Math::multiply(sums[p][t][gate], a[i].rows[t][0], a[i].rows[t][1], b);
      }
  }
}

// Leaves the product of a tile in sums. All threads of the block.
template <class Shape, int kGates>
__device__ void multiply_step(const StepTile<Shape>& tile, const HeldPanels<Shape, kGates>& held,
                              const StepSums<Shape, kGates>& out) {
  constexpr int kKept = Shape::kKept, kAhead = Shape::kAhead;
  constexpr int kOfBoth = (kKept + kAhead - 1) / kAhead * kAhead;
  WarpSums<Shape, kGates> sums;
  const auto rest = [&](int i, int p, int gate) { return held.of_rest(i, p, gate); };
#pragma unroll
  for (int first = 0; first < kOfBoth; first += kAhead)
    multiply_slabs<Shape, kGates>(
        tile, held, first,
        [&](int i, int p, int gate) {
          return i < kKept ? held.kept[i < kKept ? i : 0][p][gate] : held.of_rest(i, p, gate);
        },
        sums);
#pragma unroll 1
  for (int first = kOfBoth; first < held.of_warp(); first += kAhead)
    multiply_slabs<Shape, kGates>(tile, held, first, rest, sums);
  leave_sums<Shape, kGates>(sums, held.gates, out);
}

// A panel that lies elsewhere: rows of A with it.
template <typename T>
struct StepProduct {
  int64_t depth;
  int gates;  // at most kGates of the sums
  const T* panel;
  bool aligned;  // all rows of A begin on 16 bytes
};

template <class Shape, int kGates, class Row>
__device__ void multiply_step(const StepProduct<typename Shape::Math::Value>& in,
                              const StepSums<Shape, kGates>& out, const Row& row) {
  static_assert(Shape::kKept == 0 && Shape::kPanels == 1);
  HeldPanels<Shape, kGates> held;
  held.take([&](int) { return in.panel; }, in.gates,
            divide_up(in.depth, kSlab<typename Shape::Math::Value>));
  multiply_step(StepTile<Shape>(in.depth, in.aligned, row), held, out);
}

}  // namespace seq2seq_ext::cuda
