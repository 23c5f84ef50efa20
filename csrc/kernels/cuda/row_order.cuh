// The order of rows: by length, and where each packed row lies.
#pragma once

#include "device.cuh"
#include "recurrent.h"

namespace seq2seq_ext::cuda {

constexpr int kRowThreads = 256;

__device__ inline int64_t length_of(const RowOrder& in, int64_t b) {
  if (!in.lengths) return in.steps;
  return in.lengths[b] < 0 ? 0 : smaller(in.lengths[b], in.steps);
}

// A thread for each row: it finds its rank by comparing the row with all others.
struct RankKernel {
  static constexpr int kThreads = kRowThreads, kBlocksPerSm = 1;
  RowOrder in;

  __device__ void operator()(char*) const {
    const int64_t b = block_index() * kThreads + thread_index();
    if (b >= in.batch) return;
    const int64_t own = length_of(in, b);
    int64_t rank = 0;
    for (int64_t other = 0; other < in.batch; ++other) {
      const int64_t n = length_of(in, other);
      rank += n > own || (n == own && other < b);
    }
    in.rows[rank] = b;
    in.sorted[rank] = own;
  }
};

// A thread for each step: how many rows take it, and how many were taken before.
struct CountKernel {
  static constexpr int kThreads = kRowThreads, kBlocksPerSm = 1;
  RowOrder in;

  __device__ void operator()(char*) const {
    const int64_t s = block_index() * kThreads + thread_index();
    if (s > in.steps) return;
    int64_t active = 0, before = 0;
    for (int64_t b = 0; b < in.batch; ++b) {
      active += in.sorted[b] > s;
      before += smaller(in.sorted[b], s);
    }
    if (s < in.steps) in.active[s] = active;
    in.offsets[s] = before;
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
