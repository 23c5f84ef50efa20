// One layer, one direction, backward through time. A step gives the gradients of its gates;
// the weights' gradients are a few large products after the loop, made by the caller.
// Ownership of units as in recurrent_layer.h; here too the team meets once a step.
#pragma once

#include "../cell.h"
#include "gemm_blocks.h"
#include "recurrent_layer.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

// Rows at a time that a member encodes for a product: the longest are gates, or the projected.
template <class Cell, class W>
int64_t backward_member_bytes(const RecurrentSizes& s) {
  const int64_t gates = Cell::kGates * s.hidden;
  return W::kEncodes ? kBlockRows * row_bytes<W>(s.output > gates ? s.output : gates) : 0;
}

template <class Cell, class W>
int64_t backward_workspace(const RecurrentSizes& sizes, int team_size) {
  return team_size * backward_member_bytes<Cell, W>(sizes);
}

template <class Cell, class W>
class BackwardPass {
  using T = typename W::T;

 public:
  BackwardPass(const RecurrentBackward<T>& args, const Team& team)
      : a_(args),
        team_(team),
        at_(args.sizes),
        hidden_slice_(args.sizes.hidden, team),
        output_slice_(args.sizes.output, team),
        encoded_(behind<char>(args.workspace,
                              team.index * backward_member_bytes<Cell, W>(args.sizes))) {}

  void run() {
    for (int64_t s = a_.ragged.steps - 1; s >= 0; --s) {
      if (a_.sizes.projected) {
        collect_projected(s);
        team_.sync();
      }
      gate_gradients(s);
      if (team_.sync_or_stop()) return;
      state_gradients(s);
    }
  }

 private:
  static constexpr int64_t kWidth = kPanelWidth<T>;
  static constexpr int kLanes = Simd<T>::kLanes;

  int64_t time(int64_t s, int64_t b) const { return a_.reverse ? a_.ragged.lengths[b] - 1 - s : s; }
  const T* grad_output_row(int64_t s, int64_t b) const {
    return a_.grad_output.data + time(s, b) * a_.grad_output.time_stride +
           a_.ragged.rows[b] * a_.grad_output.batch_stride;
  }
  const T* previous_state(int64_t s, int64_t b) const {
    const int64_t row = a_.ragged.rows[b];
    if (s == 0) return a_.h_0 + row * a_.sizes.output;
    return a_.output.data + time(s - 1, b) * a_.output.time_stride + row * a_.output.batch_stride;
  }
  const T* saved_row(int64_t s, int64_t b) const {
    return a_.saved + (a_.ragged.offsets[s] + b) * Cell::kSaved * a_.sizes.hidden;
  }
  const T* previous_cell(int64_t s, int64_t b) const {
    const int64_t hidden = a_.sizes.hidden;
    return s == 0 ? a_.c_0 + a_.ragged.rows[b] * hidden
                  : saved_row(s - 1, b) + (Cell::kSaved - 1) * hidden;
  }

  // grad_projected = grad of h from the next step and from the output.
  void collect_projected(int64_t s) const {
    const int64_t size = a_.sizes.output;
    const int64_t first = output_slice_.first_unit(), end = first + output_slice_.units(size);
    for (int64_t b = 0; b < a_.ragged.active[s]; ++b) {
      const T* output = grad_output_row(s, b);
      const T* state = a_.grad_h + a_.ragged.rows[b] * size;
      T* to = a_.grad_projected + (a_.ragged.offsets[s] + b) * size;
      for (int64_t i = first; i < end; ++i) to[i] = output[i] + state[i];
    }
  }

  // c(b) (+)= a(b) B, for the rows of a step and this thread's panels.
  template <class A, class C>
  void multiply_rows(int64_t s, const Gemm<T>& product, const Slice<T>& slice, const A& a,
                     const C& c) const {
    const void* from[kBlockRows];
    T* to[kBlockRows];
    Gemm<T> g = product;
    g.a = from, g.c = to;
    for (int64_t b = 0, active = a_.ragged.active[s]; b < active; b += kBlockRows) {
      const int64_t rows = smaller(kBlockRows, active - b);
      for (int64_t m = 0; m < rows; ++m) {
        from[m] = a(b + m), to[m] = c(b + m);
        if constexpr (W::kEncodes) {
          char* const encoded = encoded_ + m * row_bytes<W>(g.depth);
          encode_row<W>(a(b + m), 1, g.depth, encoded);
          from[m] = encoded;
        }
      }
      multiply<W>(g, 0, rows, slice.begin, slice.end);
    }
  }

  void gate_gradients(int64_t s) const {
    const int64_t active = a_.ragged.active[s], offset = a_.ragged.offsets[s];
    const int64_t hidden = a_.sizes.hidden, size = a_.sizes.output;
    if (a_.sizes.projected)  // of o * tanh(c), where its value comes to lie
      multiply_rows(
          s,
          {size, hidden, nullptr, behind<char>(a_.packed, at_.weight_hr), nullptr, nullptr, false},
          hidden_slice_, [&](int64_t b) { return a_.grad_projected + (offset + b) * size; },
          [&](int64_t b) { return a_.projected + (offset + b) * hidden; });
    // Row by row: each is a dozen streams, more than the hardware foresees in jumps.
    for (int64_t b = 0; b < active; ++b)
      for (int64_t block = hidden_slice_.begin; block < hidden_slice_.end; ++block)
        unit_gradients(s, b, block);
  }

  void unit_gradients(int64_t s, int64_t b, int64_t block) const {
    const int64_t hidden = a_.sizes.hidden, row = a_.ragged.rows[b];
    const int64_t packed_row = a_.ragged.offsets[s] + b;
    const T* saved = saved_row(s, b);
    for (int half = 0; half < 2; ++half) {
      const int64_t lane = half * kLanes, unit = block * kWidth + lane, n = hidden - unit;
      if (n <= 0) return;
      CellGradient<Cell, T> g{};
      for (int k = 0; k < Cell::kSaved; ++k) g.saved[k] = load_n(saved + k * hidden + unit, n);
      if (a_.sizes.projected)
        g.grad_h = load_n(a_.projected + packed_row * hidden + unit, n);
      else
        g.grad_h =
            load_n(a_.grad_h + row * hidden + unit, n) + load_n(grad_output_row(s, b) + unit, n);
      if (Cell::kReadsState) g.h_prev = load_n(previous_state(s, b) + unit, n);
      if (Cell::kHasCell) {
        g.c_prev = load_n(previous_cell(s, b) + unit, n);
        g.grad_c = load_n(a_.grad_c + row * hidden + unit, n);
      }
      Cell::backward(g);
      for (int k = 0; k < Cell::kGates; ++k) {
        const int64_t at = (packed_row * Cell::kGates + k) * hidden + unit;
        store_n(a_.grad_gates_x + at, g.grad_x[k], n);
        if (Cell::kSplit) store_n(a_.grad_gates_h + at, g.grad_gate_h[k], n);
      }
      if (Cell::kHasCell) store_n(a_.grad_c + row * hidden + unit, g.grad_c, n);
      if (Cell::kReadsState) store_n(a_.grad_h + row * hidden + unit, g.grad_h_prev, n);
      if (a_.sizes.projected) store_n(a_.projected + packed_row * hidden + unit, g.h, n);
    }
  }

  // grad_h (+)= grad_gates_h W_hh, for this thread's part of P.
  void state_gradients(int64_t s) const {
    const int64_t depth = Cell::kGates * a_.sizes.hidden, size = a_.sizes.output;
    const int64_t offset = a_.ragged.offsets[s];
    multiply_rows(
        s,
        {depth, size, nullptr, behind<char>(a_.packed, at_.weight_hh), nullptr, nullptr,
         Cell::kReadsState},
        output_slice_, [&](int64_t b) { return a_.grad_gates_h + (offset + b) * depth; },
        [&](int64_t b) { return a_.grad_h + a_.ragged.rows[b] * size; });
  }

  const RecurrentBackward<T>& a_;
  const Team& team_;
  const PackedBackward<Cell, W> at_;
  const Slice<T> hidden_slice_, output_slice_;
  char* const encoded_;
};

template <class Cell, class W>
void backward(const RecurrentBackward<typename W::T>& args, const Team& team) {
  BackwardPass<Cell, W>(args, team).run();
}

// The kernel table's entry for a cell and a weight type.
template <class Cell, class W>
RecurrentKernels<typename W::T> recurrent_kernels() {
  return {Cell::kGates,
          Cell::kSaved,
          Cell::kHasCell,
          Cell::kSplit,
          packed_forward_size<Cell, W>,
          pack_forward<Cell, W>,
          packed_backward_size<Cell, W>,
          pack_backward<Cell, W>,
          forward_workspace<Cell, W>,
          backward_workspace<Cell, W>,
          forward<Cell, W>,
          backward<Cell, W>};
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
