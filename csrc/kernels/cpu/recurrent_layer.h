// One layer, one direction, forward: the driver that every cell shares. A Cell gives the
// equations on vectors of units; this file gives the order of work. Its backward is in
// recurrent_backward.h.
//
// Hidden units are cut into blocks of one panel width. The G gates of a block are
// neighbouring panels, so the tile that the product leaves in L1 finishes its units in one
// epilogue. A thread owns a slice of blocks for the whole sequence: its weights stay in
// its L2, and the team meets once a step.
#pragma once

#include "../recurrent.h"
#include "gemm_tile.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

// Rows of input projected ahead of the recurrence at a time: enough to reuse each weight
// panel, few enough for the result to stay in cache.
constexpr int64_t kChunkRows = 128;

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <typename T>
inline void copy(T* to, const T* from, int64_t n) {
  __builtin_memcpy(to, from, n * sizeof(T));
}

// A thread's part of n units: whole blocks [begin, end).
template <typename T>
struct Slice {
  int64_t begin, end;

  Slice(int64_t units, const Team& team) {
    const Share share = share_of(panel_count<T>(units), team.index, team.size);
    begin = share.begin;
    end = share.end;
  }
  int64_t first_unit() const { return begin * kPanelWidth<T>; }
  int64_t units(int64_t total) const {
    return smaller(end * kPanelWidth<T>, total) - smaller(first_unit(), total);
  }
};

// Bytes of n values, in whole cache lines.
template <typename T>
constexpr int64_t lines(int64_t n) {
  return (n * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
}

// Where everything lies in the packed weights of forward: bytes from their begin.
template <class Cell, typename T>
struct PackedForward {
  static constexpr int64_t kWidth = kPanelWidth<T>;
  int64_t weight_ih, weight_hh, bias_x, bias_h, weight_hr, size;

  explicit PackedForward(const RecurrentSizes& s) {
    const int64_t panels = panel_count<T>(s.hidden) * Cell::kGates;
    weight_ih = 0;
    weight_hh = weight_ih + lines<T>(panels * kWidth * s.input);
    bias_x = weight_hh + lines<T>(panels * kWidth * s.output);
    bias_h = bias_x + lines<T>(panels * kWidth);
    weight_hr = bias_h + lines<T>(panels * kWidth);
    size = weight_hr + (s.projected ? lines<T>(panel_count<T>(s.output) * kWidth * s.hidden) : 0);
  }
};

template <typename T>
T* part(void* whole, int64_t bytes) {
  return reinterpret_cast<T*>(static_cast<char*>(whole) + bytes);
}

template <typename T>
const T* part(const void* whole, int64_t bytes) {
  return reinterpret_cast<const T*>(static_cast<const char*>(whole) + bytes);
}

template <class Cell, typename T>
int64_t packed_forward_size(const RecurrentSizes& sizes) {
  return PackedForward<Cell, T>(sizes).size;
}

// weight [G*H, depth] -> panels [block][gate][depth][width], zero past H.
template <class Cell, typename T>
void pack_gates(const T* weight, int64_t hidden, int64_t depth, T* panels) {
  constexpr int64_t kWidth = kPanelWidth<T>;
  for (int64_t block = 0; block < panel_count<T>(hidden); ++block)
    for (int64_t gate = 0; gate < Cell::kGates; ++gate, panels += depth * kWidth) {
      const int64_t units = smaller(kWidth, hidden - block * kWidth);
      const T* rows = weight + (gate * hidden + block * kWidth) * depth;
      for (int64_t k = 0; k < depth; ++k)
        for (int64_t j = 0; j < kWidth; ++j)
          panels[k * kWidth + j] = j < units ? rows[j * depth + k] : T(0);
    }
}

template <class Cell, typename T>
void pack_forward(const RecurrentSizes& s, const RecurrentWeights<T>& w, void* packed) {
  constexpr int64_t kWidth = kPanelWidth<T>;
  const PackedForward<Cell, T> at(s);
  pack_gates<Cell>(w.weight_ih, s.hidden, s.input, part<T>(packed, at.weight_ih));
  pack_gates<Cell>(w.weight_hh, s.hidden, s.output, part<T>(packed, at.weight_hh));
  T* bias_x = part<T>(packed, at.bias_x);
  T* bias_h = part<T>(packed, at.bias_h);
  for (int64_t block = 0; block < panel_count<T>(s.hidden); ++block)
    for (int64_t gate = 0; gate < Cell::kGates; ++gate)
      for (int64_t j = 0; j < kWidth; ++j, ++bias_x, ++bias_h) {
        const int64_t unit = block * kWidth + j;
        const bool real = w.bias_ih && unit < s.hidden;
        const T x = real ? w.bias_ih[gate * s.hidden + unit] : T(0);
        const T h = real ? w.bias_hh[gate * s.hidden + unit] : T(0);
        *bias_x = Cell::gate_is_split(gate) ? x : x + h;
        *bias_h = Cell::gate_is_split(gate) ? h : T(0);
      }
  if (!s.projected) return;
  // B[k][n] = weight_hr[n][k].
  T* panels = part<T>(packed, at.weight_hr);
  for (int64_t p = 0; p < panel_count<T>(s.output); ++p)
    for (int64_t k = 0; k < s.hidden; ++k)
      for (int64_t j = 0; j < kWidth; ++j, ++panels) {
        const int64_t n = p * kWidth + j;
        *panels = n < s.output ? w.weight_hr[n * s.hidden + k] : T(0);
      }
}

// Each thread: projected inputs of a chunk and one tile; the team: unprojected states. Counted
// in values of T.
template <class Cell, typename T>
struct ForwardWorkspace {
  int64_t chunk_rows, chunk_stride, per_thread, size;

  ForwardWorkspace(const RecurrentSizes& s, int64_t batch, int team_size) {
    const int64_t blocks = (panel_count<T>(s.hidden) + team_size - 1) / team_size;
    chunk_rows = batch > kChunkRows ? batch : kChunkRows;
    chunk_stride = blocks * Cell::kGates * kPanelWidth<T>;
    per_thread = chunk_rows * chunk_stride + kTileRows * Cell::kGates * kPanelWidth<T>;
    size = per_thread * team_size + (s.projected ? batch * s.hidden : 0);
  }
};

template <class Cell, typename T>
int64_t forward_workspace(const RecurrentSizes& sizes, int64_t batch, int team_size) {
  return lines<T>(ForwardWorkspace<Cell, T>(sizes, batch, team_size).size);
}

template <class Cell, typename T>
class ForwardPass {
 public:
  ForwardPass(const RecurrentForward<T>& args, const Team& team)
      : a_(args),
        team_(team),
        at_(args.sizes),
        space_(args.sizes, args.ragged.batch, team.size),
        hidden_slice_(args.sizes.hidden, team),
        output_slice_(args.sizes.output, team),
        chunk_(static_cast<T*>(args.workspace) + team.index * space_.per_thread),
        tile_(chunk_ + space_.chunk_rows * space_.chunk_stride),
        states_(static_cast<T*>(args.workspace) + team.size * space_.per_thread) {}

  void run() {
    const RaggedBatch& r = a_.ragged;
    if (Cell::kHasCell) copy_columns(a_.c_n, a_.c_0, a_.sizes.hidden, hidden_slice_);
    for (int64_t s = 0, chunk_end = 0; s < r.steps; ++s) {
      if (s == chunk_end) {
        chunk_begin_ = s;
        while (chunk_end < r.steps && r.offsets[chunk_end + 1] - r.offsets[s] <= space_.chunk_rows)
          ++chunk_end;
        project_inputs(s, chunk_end);
      }
      step(s);
      team_.sync();
      if (a_.sizes.projected) {
        project_states(s);
        team_.sync();
      }
    }
    copy_final_states();
  }

 private:
  static constexpr int64_t kWidth = kPanelWidth<T>;
  static constexpr int64_t kBlock = Cell::kGates * kWidth;
  static constexpr int kLanes = Simd<T>::kLanes;

  int64_t time(int64_t s, int64_t b) const { return a_.reverse ? a_.ragged.lengths[b] - 1 - s : s; }
  T* output_row(int64_t s, int64_t b) const {
    return a_.output.data + time(s, b) * a_.output.time_stride +
           a_.ragged.rows[b] * a_.output.batch_stride;
  }
  const T* previous_state(int64_t s, int64_t b) const {
    return s > 0 ? output_row(s - 1, b) : a_.h_0 + a_.ragged.rows[b] * a_.sizes.output;
  }
  T* chunk_row(int64_t s, int64_t b) const {
    const int64_t row = a_.ragged.offsets[s] - a_.ragged.offsets[chunk_begin_] + b;
    return chunk_ + row * space_.chunk_stride;
  }

  void copy_columns(T* to, const T* from, int64_t row_size, const Slice<T>& slice) const {
    for (int64_t b = 0; b < a_.ragged.batch; ++b)
      copy(to + b * row_size + slice.first_unit(), from + b * row_size + slice.first_unit(),
           slice.units(row_size));
  }

  void copy_final_states() const {
    const int64_t first = output_slice_.first_unit(), n = output_slice_.units(a_.sizes.output);
    for (int64_t b = 0; b < a_.ragged.batch; ++b)
      copy(a_.h_n + a_.ragged.rows[b] * a_.sizes.output + first,
           previous_state(a_.ragged.lengths[b], b) + first, n);
  }

  // chunk = input W_ih^T + bias, for this thread's gates and the rows of steps [s0, s1).
  void project_inputs(int64_t s0, int64_t s1) const {
    const RaggedBatch& r = a_.ragged;
    const int64_t rows = r.offsets[s1] - r.offsets[s0];
    const T* a[kTileRows];
    for (int64_t block = hidden_slice_.begin; block < hidden_slice_.end; ++block) {
      const T* panels = part<T>(a_.packed, at_.weight_ih) + block * kBlock * a_.sizes.input;
      const T* bias = part<T>(a_.packed, at_.bias_x) + block * kBlock;
      T* c = chunk_ + (block - hidden_slice_.begin) * kBlock;
      int64_t s = s0, b = 0;
      for (int64_t row = 0, height; row < rows; row += height) {
        height = tile_height(rows - row);
        for (int64_t m = 0; m < height; ++m, ++b) {
          if (b == r.active[s]) ++s, b = 0;
          a[m] =
              a_.input.data + time(s, b) * a_.input.time_stride + r.rows[b] * a_.input.batch_stride;
          copy(c + m * space_.chunk_stride, bias, kBlock);
        }
        multiply_tiles<T>(
            {a, panels, a_.sizes.input, a_.sizes.input * kWidth, c, space_.chunk_stride, true},
            height, Cell::kGates);
        c += height * space_.chunk_stride;
      }
    }
  }

  void step(int64_t s) const {
    const int64_t active = a_.ragged.active[s], depth = a_.sizes.output;
    const T* h[kTileRows];
    for (int64_t block = hidden_slice_.begin; block < hidden_slice_.end; ++block) {
      const T* panels = part<T>(a_.packed, at_.weight_hh) + block * kBlock * depth;
      for (int64_t b = 0, height; b < active; b += height) {
        height = tile_height(active - b);
        for (int64_t m = 0; m < height; ++m) h[m] = previous_state(s, b + m);
        multiply_tiles<T>({h, panels, depth, depth * kWidth, tile_, kBlock, false}, height,
                          Cell::kGates);
        for (int64_t m = 0; m < height; ++m)
          finish_units(s, b + m, block, h[m], tile_ + m * kBlock);
      }
    }
  }

  // The cell's equations for one row and one block of units.
  void finish_units(int64_t s, int64_t b, int64_t block, const T* h_prev, const T* tile) const {
    const int64_t hidden = a_.sizes.hidden, row = a_.ragged.rows[b];
    const T* chunk = chunk_row(s, b) + (block - hidden_slice_.begin) * kBlock;
    const T* bias_h = part<T>(a_.packed, at_.bias_h) + block * kBlock;
    T* to = a_.sizes.projected ? states_ + row * hidden : output_row(s, b);
    T* saved = a_.saved ? a_.saved + (a_.ragged.offsets[s] + b) * Cell::kSaved * hidden : nullptr;
    for (int half = 0; half < 2; ++half) {
      const int64_t lane = half * kLanes, unit = block * kWidth + lane, n = hidden - unit;
      if (n <= 0) return;
      Vec<T> x[Cell::kGates], h[Cell::kGates], keep[Cell::kSaved];
      for (int g = 0; g < Cell::kGates; ++g) {
        x[g] = load(chunk + g * kWidth + lane);
        h[g] = load(tile + g * kWidth + lane);
        if (Cell::gate_is_split(g)) h[g] += load(bias_h + g * kWidth + lane);
      }
      Vec<T> c{}, previous{};
      if (Cell::kHasCell) c = load_n(a_.c_n + row * hidden + unit, n);
      if (Cell::kReadsState) previous = load_n(h_prev + unit, n);
      const Vec<T> state = Cell::template forward<T>(x, h, previous, c, keep);
      store_n(to + unit, state, n);
      if (Cell::kHasCell) store_n(a_.c_n + row * hidden + unit, c, n);
      if (saved)
        for (int k = 0; k < Cell::kSaved; ++k) store_n(saved + k * hidden + unit, keep[k], n);
    }
  }

  // h = weight_hr (o * tanh(c)), for this thread's part of P.
  void project_states(int64_t s) const {
    const int64_t active = a_.ragged.active[s], depth = a_.sizes.hidden;
    const T* a[kTileRows];
    for (int64_t block = output_slice_.begin; block < output_slice_.end; ++block) {
      const int64_t n0 = block * kWidth, n = a_.sizes.output - n0;
      for (int64_t b = 0, height; b < active; b += height) {
        height = tile_height(active - b);
        for (int64_t m = 0; m < height; ++m) a[m] = states_ + a_.ragged.rows[b + m] * depth;
        multiply_tiles<T>(
            {a, part<T>(a_.packed, at_.weight_hr) + n0 * depth, depth, 0, tile_, kWidth, false},
            height, 1);
        for (int64_t m = 0; m < height; ++m) {
          T* to = output_row(s, b + m) + n0;
          store_n(to, load(tile_ + m * kWidth), n);
          if (n > kLanes) store_n(to + kLanes, load(tile_ + m * kWidth + kLanes), n - kLanes);
        }
      }
    }
  }

  const RecurrentForward<T>& a_;
  const Team& team_;
  const PackedForward<Cell, T> at_;
  const ForwardWorkspace<Cell, T> space_;
  const Slice<T> hidden_slice_, output_slice_;
  T *const chunk_, *const tile_, *const states_;
  int64_t chunk_begin_ = 0;
};

template <class Cell, typename T>
void forward(const RecurrentForward<T>& args, const Team& team) {
  ForwardPass<Cell, T>(args, team).run();
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
