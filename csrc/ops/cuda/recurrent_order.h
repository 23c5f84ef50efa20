// The rows of a layer's batch in the kernels' order, on the device.
#pragma once

#include <ATen/ops/empty.h>

#include "../recurrent_inputs.h"
#include "device.h"
#include "kernels/cuda/recurrent.h"

namespace seq2seq_ext::cuda {

// The packed order of rows, on the device. Lengths on the host tell how many there are.
struct Order {
  Order(const LayerInputs& in, const Sizes& s) {
    const auto options = in.input.options().dtype(at::kLong);
    capacity = s.steps * s.batch;
    if (in.lengths) {
      lengths = device_lengths(in.op, "lengths", *in.lengths, s.batch, s.steps, in.input.device());
      if (is_on_host(*in.lengths)) capacity = in.lengths->sum().item<int64_t>();
    }
    rows = at::empty({2 * s.batch + 2 * s.steps + 1}, options);
    places = at::empty({s.directions, capacity}, options);
    int64_t* const sorted = data<int64_t>(rows) + s.batch;
    const RowOrder order{s.batch,
                         s.steps,
                         data<const int64_t>(lengths),
                         data<int64_t>(rows),
                         sorted,
                         sorted + s.batch,
                         sorted + s.batch + s.steps,
                         s.directions,
                         capacity,
                         data<int64_t>(places)};
    order_rows(order, current_stream(in.input));
    ragged = {s.batch, s.steps, order.rows, order.sorted, order.active, order.offsets};
  }

  int64_t capacity;
  RaggedBatch ragged;
  at::Tensor lengths, rows, places;
};

// Sets what forward and backward are told alike; the tensors must live as long as the launch.
template <typename T>
void set_run(RecurrentRun<T>& run, const LayerInputs& in, const Sizes& s, const Order& order,
             const at::Tensor& packed, const at::Tensor& h_0, const at::Tensor& counters) {
  run.cell = in.cell;
  run.ragged = order.ragged;
  run.sizes = s;
  run.directions = s.directions;
  run.capacity = order.capacity;
  run.tf32 = allows_tf32();
  run.packed = data<const char>(packed);
  run.h_0 = data<const T>(h_0);
  run.counters = data<unsigned>(counters);
}

// A copy with the type that sums have.
inline at::Tensor widened(const at::Tensor& t) {
  return t.to(accumulator(t.scalar_type()), /*non_blocking=*/false, /*copy=*/true,
              at::MemoryFormat::Contiguous);
}

}  // namespace seq2seq_ext::cuda
