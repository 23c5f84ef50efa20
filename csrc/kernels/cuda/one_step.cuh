// One step, weights as they are. A block owns 8 units with all their gates and a tile of rows. Its
// warps cut depth, the input's and then the state's, and each lane fetches its chunks of weights
// some slabs ahead into the warp's own part of shared memory.
#pragma once

#include "recurrent_steps.cuh"

namespace seq2seq_ext::cuda {

// Rows, and the weights that they meet.
template <typename T>
struct StepOperands {
  const T* rows;
  int64_t row_stride;
  const T* weight;  // [G*H, depth]
  int64_t depth;
  bool aligned;  // all rows of both begin on 16 bytes
};

template <class Math>
struct OneStepKernel {
  using T = typename Math::Value;
  using A = Acc<T>;
  // A slot for each gate's sums; a split gate takes two, the input's and the state's.
  static constexpr int kSlots = 4, kStages = 4, kTiles = kStepTiles<Math>;
  using Shape = PlainShape<Math>;
  static_assert(kSlots >= LstmCell::kGates && kSlots > GruCell::kGates);
  using Sums = StepSums<Shape, kSlots>;
  // Two blocks leave 128 registers a thread; the sums of MultiplyAdds need more.
  static constexpr int kThreads = kStepThreads, kBlocksPerSm = kStepTiles<Math>;
  RecurrentStep<T> in;
  CellTraits traits;
  StepOperands<T> x, h;

  int64_t blocks() const { return panels_of(in.sizes.hidden) * tiles(); }
  int64_t shared_bytes() const {
    const int64_t fetched = kStepWarps * kStages * traits.gates * kPanelSlab<T> * sizeof(T);
    const int64_t sums = Sums::kSize * sizeof(typename Math::Sum);
    return fetched > sums ? fetched : sums;
  }

  __device__ void operator()(char* shared) const {
    const int64_t first = block_index() % tiles() * Shape::kRows;
    const int64_t panel = block_index() / tiles() * kPanelRows;
    const Sums sums{reinterpret_cast<typename Math::Sum*>(shared)};
    multiply(first, panel, reinterpret_cast<T*>(shared), sums);
    for_each_unit<Shape>([&](int r, int, int u) {
      if (first + r >= in.batch || panel + u >= in.sizes.hidden) return;
      with_cell(in.cell, [&]<class Cell>() { finish<Cell>(first, panel, sums, r, u); });
    });
  }

 private:
  __host__ __device__ int64_t tiles() const { return divide_up(in.batch, Shape::kRows); }
  __device__ int slabs(const StepOperands<T>& of) const { return divide_up(of.depth, kSlab<T>); }

  // The gate that a slot sums; -1 for none.
  __device__ int gate_of(int slot, bool is_state) const {
    const int last = static_cast<int>(traits.gates) - 1;
    if (slot < last) return slot;
    return slot == last + (traits.split_gates && is_state) ? last : -1;
  }

  __device__ void multiply(int64_t first, int64_t panel, T* shared, const Sums& out) const {
    T* const ring = shared + warp_index() * kStages * traits.gates * kPanelSlab<T>;
    const int of_input = slabs(x), all = of_input + slabs(h);
    const auto fetch_next = [&](int s, int stage) {
      if (s < all)
        fetch(s < of_input ? x : h, s < of_input ? s : s - of_input, panel,
              ring + stage * traits.gates * kPanelSlab<T>);
      commit_copies();  // even where there is nothing, for the count
    };
    for (int i = 0; i < kStages - 1; ++i) fetch_next(warp_index() + i * kStepWarps, i);
    WarpSums<Shape, kSlots> sums;
    int stage = 0;
    for (int s = warp_index(); s < all; s += kStepWarps) {
      const bool is_state = s >= of_input;
      Chunk<T> a[kTiles][2];
      load_rows(is_state ? h : x, is_state ? s - of_input : s, first, a);
      wait_copies<kStages - 2>();
      sync_warp();
      fetch_next(s + (kStages - 1) * kStepWarps, stage == 0 ? kStages - 1 : stage - 1);
      const T* const slab = ring + stage * traits.gates * kPanelSlab<T>;
#pragma unroll
      for (int slot = 0; slot < kSlots; ++slot) {
        const int gate = gate_of(slot, is_state);
        if (gate < 0) continue;
        const typename Math::Panel weights = Math::panel(slab + gate * kPanelSlab<T>);
#pragma unroll
        for (int i = 0; i < kTiles; ++i)
          Math::multiply(sums[0][i][slot], a[i][0], a[i][1], weights);
      }
      stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    wait_copies<0>();
    leave_sums<Shape, kSlots>(sums, static_cast<int>(traits.gates + traits.split_gates), out);
  }

  // This lane's chunk of a slab of every gate's 8 rows.
  __device__ void fetch(const StepOperands<T>& of, int64_t slab, int64_t panel, T* to) const {
    const int64_t unit = panel + lane_index() / kSlabChunks;
    const int64_t k = slab * kSlab<T> + lane_index() % kSlabChunks * Chunk<T>::kSize;
    const int64_t n = of.depth - k;
    for (int gate = 0; gate < traits.gates; ++gate) {
      Chunk<T>* const chunk = reinterpret_cast<Chunk<T>*>(to + gate * kPanelSlab<T>) + lane_index();
      const T* const from = of.weight + (gate * in.sizes.hidden + unit) * of.depth + k;
      if (unit >= in.sizes.hidden)
        *chunk = Chunk<T>{};
      else if (of.aligned && n >= Chunk<T>::kSize)
        copy_async(chunk, reinterpret_cast<const Chunk<T>*>(from));
      else
        *chunk = load_part(from, n, false);
    }
  }

  __device__ void load_rows(const StepOperands<T>& of, int64_t slab, int64_t first,
                            Chunk<T> (&a)[kTiles][2]) const {
    const int64_t k = slab * kSlab<T> + lane_index() % kSlabChunks * Chunk<T>::kSize;
#pragma unroll
    for (int i = 0; i < kTiles; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int64_t b = first + i * kTileRows + half * 8 + lane_index() / kSlabChunks;
        const T* const from = of.rows + b * of.row_stride + k;
        a[i][half] = b < in.batch ? load_part(from, of.depth - k, of.aligned) : Chunk<T>{};
      }
  }

  template <class Cell>
  __device__ void finish(int64_t first, int64_t panel, const Sums& sums, int r, int u) const {
    const int64_t hidden = in.sizes.hidden, b = first + r, unit = panel + u;
    const auto bias = [&](const T* biases, int gate) {
      return biases ? to_acc(biases[gate * hidden + unit]) : A(0);
    };
    A gates_x[Cell::kGates], gates_h[Cell::kGates], saved[Cell::kSaved], c = 0, before = 0;
    for (int k = 0; k < Cell::kGates; ++k) {
      gates_x[k] = sums.total(r, k * kPanelRows + u) + bias(in.weights.bias_ih, k);
      gates_h[k] = bias(in.weights.bias_hh, k);
      if (Cell::gate_is_split(k)) gates_h[k] += sums.total(r, (k + 1) * kPanelRows + u);
    }
    if (Cell::kHasCell) c = to_acc(in.c_0[b * hidden + unit]);
    if (Cell::kReadsState) before = to_acc(in.h_0[b * hidden + unit]);
    const T state = from_acc<T>(Cell::template forward<A>(gates_x, gates_h, before, c, saved));
    in.h_n[b * hidden + unit] = state;
    if (in.output) in.output[b * in.output_stride + unit] = state;
    if (Cell::kHasCell) in.c_n[b * hidden + unit] = from_acc<T>(c);
    if (!in.saved) return;
    T* const kept = in.saved + b * Cell::kSaved * hidden + unit;
    for (int k = 0; k < Cell::kSaved; ++k) kept[k * hidden] = from_acc<T>(saved[k]);
  }
};

}  // namespace seq2seq_ext::cuda
