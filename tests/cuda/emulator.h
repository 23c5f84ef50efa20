// A device without a GPU, for kernels written on csrc/kernels/cuda/device.cuh. Threads of a block
// are fibers; between two barriers they run in a random order drawn from a seed, so that a missing
// barrier shows. Shared memory starts as NaNs; a write past its end, a barrier that not all threads
// reach and a wait that never ends raise.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#include "kernels/cuda/types.h"

#define __device__
#define __host__

namespace seq2seq_ext::cuda::emulator {

// Of the thread that runs now.
int thread_index();
int64_t block_index();
void sync_block();
void pause();
// Gives `bytes` of every lane of this warp, in order of lanes, once all of them have come.
const char* exchange(const void* value, int64_t bytes);

struct Launch {
  std::function<void(char*)> kernel;
  int64_t blocks;
  int threads;
  int64_t shared_bytes;
  bool together;  // all blocks at once
};
void run(const Launch&);

// Limits of the device.
struct Device {
  int64_t processors = 1000, shared_bytes = 200 * 1024;
};
Device& device();
void set_seed(uint64_t seed);

}  // namespace seq2seq_ext::cuda::emulator

namespace seq2seq_ext::cuda {

using emulator::block_index;
using emulator::pause;
using emulator::sync_block;
using emulator::thread_index;

template <typename A>
A shuffle_xor(A value, int mask) {
  const char* all = emulator::exchange(&value, sizeof(A));
  std::memcpy(&value, all + ((thread_index() % 32) ^ mask) * sizeof(A), sizeof(A));
  return value;
}

template <typename T>
T load_fresh(const T* from) {
  return *from;
}
inline void add_release(unsigned* counter) { ++*counter; }
inline unsigned load_acquire(const unsigned* counter) { return *counter; }

inline float exp(float x) { return std::exp(x); }
inline double exp(double x) { return std::exp(x); }
inline float tanh(float x) { return std::tanh(x); }
inline double tanh(double x) { return std::tanh(x); }
inline double log(double x) { return std::log(x); }
inline float fused(float a, float b, float c) { return std::fma(a, b, c); }
inline double fused(double a, double b, double c) { return std::fma(a, b, c); }

inline float to_acc(Bfloat16 x) {
  const uint32_t bits = uint32_t{x.bits} << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline Bfloat16 to_bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (x != x) return {0x7fc0};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
inline float to_acc(Float16 x) {
  _Float16 value;
  std::memcpy(&value, &x.bits, 2);
  return value;
}
inline Float16 to_float16(float x) {
  const _Float16 value = x;
  Float16 half;
  std::memcpy(&half.bits, &value, 2);
  return half;
}

template <class Kernel>
void launch(const Kernel& kernel, int64_t blocks, int64_t shared_bytes, Stream) {
  emulator::run({kernel, blocks, Kernel::kThreads, shared_bytes, false});
}

template <class Kernel>
void launch_together(const Kernel& kernel, int64_t blocks, int64_t shared_bytes, Stream) {
  emulator::run({kernel, blocks, Kernel::kThreads, shared_bytes, true});
}

template <class Kernel>
int64_t resident_blocks(int64_t shared_bytes) {
  return shared_bytes > emulator::device().shared_bytes ? 0 : emulator::device().processors;
}

}  // namespace seq2seq_ext::cuda
