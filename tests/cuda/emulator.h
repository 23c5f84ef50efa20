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
// Copies that the running thread has asked for; they arrive when it waits for them.
void copy_later(void* to, const void* from, int64_t bytes);
void commit_copies();
void wait_copies(int64_t pending);
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

struct Device {
  int64_t processors = 1000, shared_bytes = 200 * 1024;  // its limits
  bool owns_memory = false;  // ops take tensors for ones that the host cannot read
  bool captures = false;     // and its stream for one that records a graph
  int64_t last_blocks = 0;   // that run of a launch, not all; 0 for all
  int64_t room = 0;          // for blocks at once, whatever its limits say; 0 for what they say
  int64_t together = 0;      // blocks of the last launch of blocks that wait for each other
};
Device& device();
void set_seed(uint64_t seed);

}  // namespace seq2seq_ext::cuda::emulator

namespace seq2seq_ext::cuda {

using emulator::block_index;
using emulator::pause;
using emulator::sync_block;
using emulator::thread_index;

inline void sync_warp() { emulator::exchange(nullptr, 0); }

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
template <typename T>
void copy_async(Chunk<T>* shared, const Chunk<T>* from) {
  emulator::copy_later(shared, from, sizeof(Chunk<T>));
}
using emulator::commit_copies;
template <int kPending>
void wait_copies() {
  emulator::wait_copies(kPending);
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

// To tf32: 10 bits of mantissa, ties away from zero.
inline float as_multiplied(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (std::isfinite(x)) bits = (bits + 0x1000) & ~uint32_t{0x1fff};
  std::memcpy(&x, &bits, 4);
  return x;
}
inline float as_multiplied(Bfloat16 x) { return to_acc(x); }
inline float as_multiplied(Float16 x) { return to_acc(x); }

// Lane 4 g + q brings chunk q of rows g and g + 8 of A and of column g of B; it takes columns 2 q
// and 2 q + 1 of these rows of C.
template <typename T>
void multiply_chunks(float (&c)[4], const Chunk<T>& a_low, const Chunk<T>& a_high,
                     const Chunk<T>& b) {
  const Chunk<T> own[3] = {a_low, a_high, b};
  using Three = Chunk<T>[3];
  const auto* all = reinterpret_cast<const Three*>(emulator::exchange(own, sizeof(own)));
  const int lane = thread_index() % 32, g = lane / 4;
  for (int i = 0; i < 4; ++i)
    for (int q = 0; q < 4; ++q)
      for (int k = 0; k < Chunk<T>::kSize; ++k)
        c[i] += as_multiplied(all[g * 4 + q][i / 2].values[k]) *
                as_multiplied(all[(lane % 4 * 2 + i % 2) * 4 + q][2].values[k]);
}

template <class Kernel>
void launch(const Kernel& kernel, int64_t blocks, int64_t shared_bytes, Stream) {
  emulator::run({kernel, blocks, Kernel::kThreads, shared_bytes, false});
}

template <class Kernel>
bool launch_together(const Kernel& kernel, int64_t blocks, int64_t shared_bytes, Stream) {
  emulator::Device& device = emulator::device();
  if (device.room > 0 && device.room < blocks) return false;
  device.together = blocks;
  emulator::run({kernel, blocks, Kernel::kThreads, shared_bytes, true});
  return true;
}

template <class Kernel>
int64_t resident_blocks(int64_t shared_bytes) {
  const emulator::Device& device = emulator::device();
  if (shared_bytes > device.shared_bytes) return 0;
  const int64_t most = shared_bytes ? device.shared_bytes / shared_bytes : Kernel::kBlocksPerSm;
  return device.processors * (most < Kernel::kBlocksPerSm ? most : Kernel::kBlocksPerSm);
}

}  // namespace seq2seq_ext::cuda
