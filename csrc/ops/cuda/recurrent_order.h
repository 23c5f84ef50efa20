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

}  // namespace seq2seq_ext::cuda
