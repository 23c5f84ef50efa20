// The order of rows: by length, and where each packed row lies.
#pragma once

#include "device.cuh"
#include "recurrent.h"

namespace seq2seq_ext::cuda {

constexpr int kRowThreads = 256;

// One block. Ranks and sums by comparing everything with everything: B^2 + B T steps, which a
// block does in microseconds for the batches that recurrent layers see.
struct SortKernel {
  static constexpr int kThreads = kRowThreads, kBlocksPerSm = 1;
  RowOrder in;

  __device__ int64_t length(int64_t b) const {
    if (!in.lengths) return in.steps;
    return in.lengths[b] < 0 ? 0 : smaller(in.lengths[b], in.steps);
  }

  __device__ void operator()(char*) const {
    for (int64_t b = thread_index(); b < in.batch; b += kThreads) {
      const int64_t own = length(b);
      int64_t rank = 0;
      for (int64_t other = 0; other < in.batch; ++other) {
        const int64_t n = length(other);
        rank += n > own || (n == own && other < b);
      }
      in.rows[rank] = b;
      in.sorted[rank] = own;
    }
    sync_block();
    for (int64_t s = thread_index(); s <= in.steps; s += kThreads) {
      int64_t active = 0, before = 0;
      for (int64_t b = 0; b < in.batch; ++b) {
        active += in.sorted[b] > s;
        before += smaller(in.sorted[b], s);
      }
      if (s < in.steps) in.active[s] = active;
      in.offsets[s] = before;
    }
  }
};

// A thread for each pair of a step and a sorted row.
struct PlaceKernel {
  static constexpr int kThreads = kRowThreads, kBlocksPerSm = 1;
  RowOrder in;

  __device__ void operator()(char*) const {
    const int64_t i = block_index() * kThreads + thread_index();
    if (i >= in.steps * in.batch) return;
    const int64_t s = i / in.batch, b = i % in.batch;
    for (int64_t d = 0; d < in.directions; ++d) {
      int64_t* const places = in.places + d * in.capacity;
      if (i >= in.offsets[in.steps] && i < in.capacity) places[i] = kNoRow;
      if (b >= in.active[s]) continue;
      const int64_t time = d == 1 ? in.sorted[b] - 1 - s : s;
      const int64_t place = in.offsets[s] + b;
      if (place < in.capacity) places[place] = time * in.batch + in.rows[b];
    }
  }
};

}  // namespace seq2seq_ext::cuda
