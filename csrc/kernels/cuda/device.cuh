// The device as kernels see it. Kernels use these names and nothing else of CUDA, so that the
// tests can compile the same kernels for an emulated device and run them without a GPU.
//
// A kernel is a struct
//   kThreads, kBlocksPerSm        of a block; resident blocks that its registers must allow
//   operator()(char* shared)      run by every thread; shared memory of the block
// that holds its arguments; launch() runs it. Every primitive:
//   thread_index, block_index     place in the block, in the grid
//   sync_block, sync_warp, shuffle_xor   all threads of the block; all lanes of the warp
//   load_fresh                    what another block may have written in this launch
//   copy_async, commit_copies, wait_copies   global to shared memory, behind the thread's back
//   add_release, load_acquire, pause   what a barrier between blocks is made of
//   exp, tanh, fused              of float and double
//   multiply_chunks               tensor cores: C += A B of a warp, see fragments.cuh
#pragma once

#include "types.h"

#ifdef __CUDACC__
#include "gpu.cuh"
#else
#include <emulator.h>
#endif

namespace seq2seq_ext::cuda {

constexpr int kWarp = 32;

__device__ inline int lane_index() { return thread_index() % kWarp; }
__device__ inline int warp_index() { return thread_index() / kWarp; }

__device__ inline float to_acc(float x) { return x; }
__device__ inline double to_acc(double x) { return x; }

template <typename T>
__device__ T from_acc(Acc<T> x);
template <>
__device__ inline float from_acc<float>(float x) {
  return x;
}
template <>
__device__ inline double from_acc<double>(double x) {
  return x;
}
template <>
__device__ inline Bfloat16 from_acc<Bfloat16>(float x) {
  return to_bfloat16(x);
}
template <>
__device__ inline Float16 from_acc<Float16>(float x) {
  return to_float16(x);
}

template <typename A>
__device__ A sigmoid(A x) {
  return 1 / (1 + exp(-x));
}

__host__ __device__ inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

__host__ __device__ constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Sums of kCount values over a warp in few shuffles: lanes swap halves of their lists, so that
// each list halves as the lanes that share it double. Lane l gets the sum of values[l / (kWarp /
// kCount)].
template <int kCount, typename A>
__device__ A warp_sums(A (&values)[kCount]) {
  const int lane = lane_index();
  int mask = kWarp / 2;
#pragma unroll
  for (int half = kCount / 2; half > 0; half /= 2, mask /= 2) {
    const bool upper = lane & mask;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const A sent = upper ? values[i] : values[i + half];
      const A kept = upper ? values[i + half] : values[i];
      values[i] = kept + shuffle_xor(sent, mask);
    }
  }
#pragma unroll
  for (; mask > 0; mask /= 2) values[0] += shuffle_xor(values[0], mask);
  return values[0];
}

template <typename A>
__device__ A warp_sum(A value) {
  A values[1] = {value};
  return warp_sums(values);
}

template <typename A>
__device__ A warp_max(A value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const A other = shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

// Whether a counter that is never more than 2^31 off has come as far as that; both may begin anew.
__host__ __device__ constexpr bool has_reached(unsigned count, unsigned goal) {
  return static_cast<int>(count - goal) >= 0;
}

// Blocks of one launch that wait for each other. All of them must be resident: launch_together().
class GridBarrier {
 public:
  // counter: zero before the launch.
  __device__ GridBarrier(unsigned* counter, unsigned blocks) : counter_(counter), blocks_(blocks) {}

  // What any thread of these blocks wrote before is seen, by load_fresh, by all of them after.
  __device__ void wait() {
    sync_block();
    goal_ += blocks_;
    if (thread_index() == 0) {
      add_release(counter_);
      while (!has_reached(load_acquire(counter_), goal_)) pause();
    }
    sync_block();
  }

 private:
  unsigned* counter_;
  unsigned blocks_, goal_ = 0;
};

}  // namespace seq2seq_ext::cuda
