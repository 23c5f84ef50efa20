// Where recurrent kernels look for what, told as numbers: for tensors too large to be there.
#include <torch/library.h>

#include "kernels/cuda/recurrent_steps.cuh"

namespace seq2seq_ext::cuda::emulator {

namespace {

// From the beginning of memory, of bytes.
int64_t distance(const char* to) { return static_cast<int64_t>(reinterpret_cast<intptr_t>(to)); }

// Of the state of sorted row 0 after step s, in [T, B, D * size] with these strides.
int64_t state(int64_t d, int64_t s, int64_t row, int64_t length, int64_t time_stride,
              int64_t batch_stride, int64_t size) {
  const RaggedBatch ragged{1, length, &row, &length, nullptr, nullptr};
  const Sequence<const char> sequence{nullptr, time_stride, batch_stride};
  return distance(StepPlace<char>{ragged, d}.state(sequence, s, 0, size));
}

// Of sorted row 0 in [D, B, size].
int64_t row(int64_t d, int64_t row, int64_t batch, int64_t size) {
  const RaggedBatch ragged{batch, 1, &row, nullptr, nullptr, nullptr};
  const char* const begin = nullptr;
  return distance(StepPlace<char>{ragged, d}.row(begin, 0, size));
}

// What packed weights of an LSTM in float32 take, forward and backward.
int64_t forward_bytes(int64_t hidden) {
  return packed_weights(CellKind::kLstm, {hidden, hidden, hidden, false}, 4, 4).size;
}
int64_t backward_bytes(int64_t hidden) {
  return packed_backward_weights(CellKind::kLstm, {hidden, hidden, hidden, false}, 4).size;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(seq2seq_ext_emulator, m) {
  m.def(
      "state_place(int d, int s, int row, int length, int time_stride, int batch_stride, "
      "int size) -> int",
      &state);
  m.def("row_place(int d, int row, int batch, int size) -> int", &row);
  m.def("forward_bytes(int hidden) -> int", &forward_bytes);
  m.def("has_reached(int count, int goal) -> bool",
        [](int64_t count, int64_t goal) { return has_reached(count, goal); });
  m.def("backward_bytes(int hidden) -> int", &backward_bytes);
}

}  // namespace seq2seq_ext::cuda::emulator
