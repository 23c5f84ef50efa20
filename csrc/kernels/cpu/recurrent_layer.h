// One layer, one direction, forward: the driver that every cell shares. A Cell gives the
// equations on vectors of units; this file gives the order of work. Its backward is in
// recurrent_backward.h.
//
// Hidden units are cut into blocks of one panel width. The G gates of a block are
// neighbouring panels, so the tile that the product leaves in L1 finishes its units in one
// epilogue. A thread owns a slice of blocks for the whole sequence: its weights stay in
// its L2, and the team meets once a step.
#pragma once

#include "recurrent_pack.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

// Rows of input projected ahead of the recurrence at a time: enough to reuse each weight
// panel, few enough for the result to stay in cache.
constexpr int64_t kChunkRows = 128;

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

// Each thread: projected inputs of a chunk, one tile, and the rows that products read; the team:
// unprojected states. Bytes.
template <class Cell, class W>
struct ForwardWorkspace {
  using T = typename W::T;
  int64_t chunk_rows, tile, inputs, states, per_thread, unprojected, size;

  ForwardWorkspace(const RecurrentSizes& s, int64_t batch, int team_size) {
    const int64_t blocks = (panel_count<T>(s.hidden) + team_size - 1) / team_size;
    const int64_t state = s.output > s.hidden ? s.output : s.hidden;
    chunk_rows = batch > kChunkRows ? batch : kChunkRows;
    tile = lines(blocks * chunk_rows * Cell::kGates * kPanelWidth<T> * sizeof(T));
    inputs = tile + lines(kTileRows * Cell::kGates * kPanelWidth<T> * sizeof(T));
    states = inputs + lines(chunk_rows * row_bytes<W>(s.input));
    per_thread = states + lines(batch * row_bytes<W>(state));
    unprojected = per_thread * team_size;
    size = unprojected + s.projected * lines(batch * s.hidden * sizeof(T));
  }
};

template <class Cell, class W>
int64_t forward_workspace(const RecurrentSizes& sizes, int64_t batch, int team_size) {
  return ForwardWorkspace<Cell, W>(sizes, batch, team_size).size;
}

template <class Cell, class W>
class ForwardPass {
  using T = typename W::T;
  using Row = typename W::Row;

 public:
  ForwardPass(const RecurrentForward<T>& args, const Team& team)
      : a_(args),
        team_(team),
        at_(args.sizes),
        space_(args.sizes, args.ragged.batch, team.size),
        hidden_slice_(args.sizes.hidden, team),
        output_slice_(args.sizes.output, team),
        chunk_(behind<T>(args.workspace, team.index * space_.per_thread)),
        tile_(behind<T>(chunk_, space_.tile)),
        inputs_(behind<char>(chunk_, space_.inputs)),
        states_(behind<char>(chunk_, space_.states)),
        unprojected_(behind<T>(args.workspace, space_.unprojected)) {}

  void run() {
    const RaggedBatch& r = a_.ragged;
    if (Cell::kHasCell) keep_empty_rows();
    for (int64_t s = 0, chunk_end = 0; s < r.steps; ++s) {
      if (s == chunk_end) {
        chunk_begin_ = s;
        while (chunk_end < r.steps && r.offsets[chunk_end + 1] - r.offsets[s] <= space_.chunk_rows)
          ++chunk_end;
        chunk_is_step_ = chunk_end == s + 1;
        prepare_inputs(s, chunk_end);
        if (!chunk_is_step_) project_inputs(r.offsets[chunk_end] - r.offsets[s]);
      }
      step(s);
      if (a_.sizes.projected) {
        team_.sync();
        project_states(s);
      }
      if (team_.sync_or_stop()) return;
    }
    copy_final_states();
  }

 private:
  static constexpr int64_t kWidth = kPanelWidth<T>;
  static constexpr int64_t kBlock = Cell::kGates * kWidth;
  static constexpr int kLanes = Simd<T>::kLanes;

  int64_t time(int64_t s, int64_t b) const { return a_.reverse ? a_.ragged.lengths[b] - 1 - s : s; }
  const T* input_row(int64_t s, int64_t b) const {
    return a_.input.data + time(s, b) * a_.input.time_stride +
           a_.ragged.rows[b] * a_.input.batch_stride;
  }
  T* output_row(int64_t s, int64_t b) const {
    return a_.output.data + time(s, b) * a_.output.time_stride +
           a_.ragged.rows[b] * a_.output.batch_stride;
  }
  int64_t parent(int64_t b) const {
    const int64_t row = a_.ragged.rows[b];
    return a_.parents ? a_.parents[row] : row;
  }
  const T* previous_state(int64_t s, int64_t b) const {
    return s > 0 ? output_row(s - 1, b) : a_.h_0 + parent(b) * a_.sizes.output;
  }
  const T* previous_cell(int64_t s, int64_t b) const {
    return s > 0 ? a_.c_n + a_.ragged.rows[b] * a_.sizes.hidden
                 : a_.c_0 + parent(b) * a_.sizes.hidden;
  }
  T* new_state(int64_t s, int64_t b) const {
    return a_.sizes.projected ? unprojected_ + a_.ragged.rows[b] * a_.sizes.hidden
                              : output_row(s, b);
  }
  // Projected inputs lie [block][row of the chunk][G][kWidth].
  T* chunk_row(int64_t block, int64_t row) const {
    return chunk_ + ((block - hidden_slice_.begin) * space_.chunk_rows + row) * kBlock;
  }

  const T* projected_inputs(int64_t s, int64_t b, int64_t block) const {
    return chunk_row(block, a_.ragged.offsets[s] - a_.ragged.offsets[chunk_begin_] + b);
  }

  // The cell state of a row without steps.
  void keep_empty_rows() const {
    const int64_t first = hidden_slice_.first_unit(), n = hidden_slice_.units(a_.sizes.hidden);
    for (int64_t b = a_.ragged.batch - 1; b >= 0 && a_.ragged.lengths[b] == 0; --b) {
      copy(a_.c_n + a_.ragged.rows[b] * a_.sizes.hidden + first, previous_cell(0, b) + first, n);
    }
  }

  void copy_final_states() const {
    const int64_t first = output_slice_.first_unit(), n = output_slice_.units(a_.sizes.output);
    for (int64_t b = 0; b < a_.ragged.batch; ++b) {
      T* const to = a_.h_n + a_.ragged.rows[b] * a_.sizes.output + first;
      const T* const from = previous_state(a_.ragged.lengths[b], b) + first;
      if (to != from) copy(to, from, n);
    }
  }

  // Of steps [s0, s1).
  void prepare_inputs(int64_t s0, int64_t s1) const {
    const RaggedBatch& r = a_.ragged;
    int64_t s = s0, b = 0;
    const auto next_input = [&](int64_t) {
      if (b == r.active[s]) ++s, b = 0;
      return input_row(s, b++);
    };
    prepare_rows<W>(next_input, r.offsets[s1] - r.offsets[s0], a_.sizes.input, inputs_);
  }

  // A tile of input W_ih^T + bias: `height` rows of the chunk, one block of units.
  void project_tile(int64_t block, int64_t row, int64_t height, T* to) const {
    const int64_t depth = a_.sizes.input, bytes = panel_bytes<W>(depth);
    multiply_tiles<W>({find_row<W>(inputs_, row, depth), row_bytes<W>(depth),
                       panel(at_.weight_ih, block * Cell::kGates, bytes), groups<W>(depth), bytes,
                       to, kBlock, behind<T>(a_.packed, at_.bias_x) + block * kBlock},
                      height, Cell::kGates);
  }

  // All rows of the chunk, for this thread's gates.
  void project_inputs(int64_t rows) const {
    for (int64_t block = hidden_slice_.begin; block < hidden_slice_.end; ++block)
      for (int64_t row = 0, height; row < rows; row += height) {
        height = tile_height(rows - row);
        project_tile(block, row, height, chunk_row(block, row));
      }
  }

  void step(int64_t s) const {
    const int64_t active = a_.ragged.active[s], depth = a_.sizes.output;
    const int64_t bytes = panel_bytes<W>(depth);
    prepare_rows<W>([&](int64_t b) { return previous_state(s, b); }, active, depth, states_);
    for (int64_t block = hidden_slice_.begin; block < hidden_slice_.end; ++block) {
      const auto* panels = panel(at_.weight_hh, block * Cell::kGates, bytes);
      for (int64_t b = 0, height; b < active; b += height) {
        height = tile_height(active - b);
        const Row* const h = find_row<W>(states_, b, depth);
        for (int64_t m = 0; m < height; ++m) ask_for_units(s, b + m, block);
        // No other step waits for this one's projected inputs: they need not leave L1.
        const T* const x = chunk_is_step_ ? chunk_ : projected_inputs(s, b, block);
        if (chunk_is_step_) project_tile(block, b, height, chunk_);
        multiply_tiles<W>({h, row_bytes<W>(depth), panels, groups<W>(depth), bytes, tile_, kBlock},
                          height, Cell::kGates);
        for (int64_t m = 0; m < height; ++m)
          finish_units(s, b + m, block, x + m * kBlock, tile_ + m * kBlock);
      }
    }
  }

  // Prefetches what finish_units is about to touch.
  void ask_for_units(int64_t s, int64_t b, int64_t block) const {
    const int64_t unit = block * kWidth;
    if (!chunk_is_step_) ask_for<0, kBlock>(projected_inputs(s, b, block));
    ask_for<1, kWidth>(new_state(s, b) + unit);
    if (!Cell::kHasCell) return;
    ask_for<1, kWidth>(a_.c_n + a_.ragged.rows[b] * a_.sizes.hidden + unit);
    if (s == 0) ask_for<0, kWidth>(previous_cell(s, b) + unit);
  }

  // The cell's equations for one row and one block of units. projected: its inputs.
  void finish_units(int64_t s, int64_t b, int64_t block, const T* projected, const T* tile) const {
    const int64_t hidden = a_.sizes.hidden, row = a_.ragged.rows[b];
    const T* bias_h = behind<T>(a_.packed, at_.bias_h) + block * kBlock;
    const T* h_prev = previous_state(s, b);
    T* to = new_state(s, b);
    T* saved = a_.saved ? a_.saved + (a_.ragged.offsets[s] + b) * Cell::kSaved * hidden : nullptr;
    for (int half = 0; half < 2; ++half) {
      const int64_t lane = half * kLanes, unit = block * kWidth + lane, n = hidden - unit;
      if (n <= 0) return;
      Vec<T> x[Cell::kGates], h[Cell::kGates], keep[Cell::kSaved];
      for (int g = 0; g < Cell::kGates; ++g) {
        x[g] = load(projected + g * kWidth + lane);
        h[g] = load(tile + g * kWidth + lane);
        if (Cell::gate_is_split(g)) h[g] += load(bias_h + g * kWidth + lane);
      }
      Vec<T> c{}, previous{};
      if (Cell::kHasCell) c = load_n(previous_cell(s, b) + unit, n);
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
    const int64_t bytes = panel_bytes<W>(depth);
    const auto unprojected = [&](int64_t b) { return unprojected_ + a_.ragged.rows[b] * depth; };
    prepare_rows<W>(unprojected, active, depth, states_);
    for (int64_t block = output_slice_.begin; block < output_slice_.end; ++block) {
      const int64_t n0 = block * kWidth, n = a_.sizes.output - n0;
      const auto* panels = panel(at_.weight_hr, block, bytes);
      for (int64_t b = 0, height; b < active; b += height) {
        height = tile_height(active - b);
        const Row* const a = find_row<W>(states_, b, depth);
        multiply_tiles<W>({a, row_bytes<W>(depth), panels, groups<W>(depth), bytes, tile_, kWidth},
                          height, 1);
        for (int64_t m = 0; m < height; ++m) {
          T* to = output_row(s, b + m) + n0;
          store_n(to, load(tile_ + m * kWidth), n);
          if (n > kLanes) store_n(to + kLanes, load(tile_ + m * kWidth + kLanes), n - kLanes);
        }
      }
    }
  }

  // Panel i, behind its head, of those at `begin` of the packed weights.
  const typename W::Stored* panel(int64_t begin, int64_t i, int64_t bytes) const {
    return behind<typename W::Stored>(a_.packed, begin + i * bytes + W::kPanelHead);
  }

  const RecurrentForward<T>& a_;
  const Team& team_;
  const PackedForward<Cell, W> at_;
  const ForwardWorkspace<Cell, W> space_;
  const Slice<T> hidden_slice_, output_slice_;
  T *const chunk_, *const tile_;
  char *const inputs_, *const states_;
  T* const unprojected_;
  int64_t chunk_begin_ = 0;
  bool chunk_is_step_ = false;
};

template <class Cell, class W>
void forward(const RecurrentForward<typename W::T>& args, const Team& team) {
  ForwardPass<Cell, W>(args, team).run();
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
