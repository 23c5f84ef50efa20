// What a cell's equations see: some units of one row. The same equations serve every device; it
// gives them, in the namespace SEQ2SEQ_EXT_ISA, Vec<T> (neighbouring units; one on a GPU),
// broadcast, sigmoid and tanh, and marks its functions with SEQ2SEQ_EXT_CELL.
#pragma once

#ifdef SEQ2SEQ_EXT_VECTOR_BYTES
#include "cpu/simd.h"
#else
#include "cuda/unit.cuh"
#endif

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

// A Cell has
//   kGates, kSaved       gates; values a unit saves, the cell state last if it has one
//   kHasCell             a cell state c beside h
//   kReadsState          h_prev enters the epilogue itself, not only the product
//   kSplit               x and h parts of some gate enter separately (GRU's n)
//   gate_is_split(g)     which
//   forward<T>(x, h, h_prev, c, saved) -> h    x = W_ih x + b, h = W_hh h + b, by gate
//   backward(CellGradient&)
template <class Cell, typename T>
struct CellGradient {
  Vec<T> saved[Cell::kSaved];
  Vec<T> h_prev, c_prev;
  Vec<T> grad_h;                     // in: whole gradient of this step's h
  Vec<T> grad_c;                     // in: of c; out: of c_prev
  Vec<T> grad_x[Cell::kGates];       // out: of x's part of each gate
  Vec<T> grad_gate_h[Cell::kGates];  // out: of h's part, where kSplit
  Vec<T> grad_h_prev;                // out: the part that does not pass the gates
  Vec<T> h;                          // out: this step's state, for a cell that has weight_hr
};

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
