// The primitives of device.cuh on a GPU.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "types.h"

namespace seq2seq_ext::cuda {

__device__ inline int thread_index() { return threadIdx.x; }
__device__ inline int64_t block_index() { return blockIdx.x; }
__device__ inline void sync_block() { __syncthreads(); }
__device__ inline void sync_warp() { __syncwarp(); }

template <typename A>
__device__ A shuffle_xor(A value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

// Past the L1 cache, which is not kept up to date with other multiprocessors.
__device__ inline float load_fresh(const float* from) { return __ldcg(from); }
__device__ inline double load_fresh(const double* from) { return __ldcg(from); }
__device__ inline Bfloat16 load_fresh(const Bfloat16* from) { return {__ldcg(&from->bits)}; }
__device__ inline Float16 load_fresh(const Float16* from) { return {__ldcg(&from->bits)}; }

template <typename T>
__device__ Chunk<T> load_fresh(const Chunk<T>* from) {
  union {
    uint4 bits;
    Chunk<T> chunk;
  } loaded{__ldcg(reinterpret_cast<const uint4*>(from))};
  return loaded.chunk;
}

template <typename T>
__device__ void copy_async(Chunk<T>* shared, const Chunk<T>* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
               "l"(from));
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;"); }
// Until all of this thread's groups of copies but the last kPending have arrived.
template <int kPending>
__device__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

__device__ inline void add_release(unsigned* counter) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}
__device__ inline unsigned load_acquire(const unsigned* counter) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
  return value;
}
__device__ inline void pause() { __nanosleep(20); }

__device__ inline float exp(float x) { return ::expf(x); }
__device__ inline double exp(double x) { return ::exp(x); }
__device__ inline float tanh(float x) { return ::tanhf(x); }
__device__ inline double tanh(double x) { return ::tanh(x); }
__device__ inline double log(double x) { return ::log(x); }
__device__ inline float fused(float a, float b, float c) { return ::fmaf(a, b, c); }
__device__ inline double fused(double a, double b, double c) { return ::fma(a, b, c); }

__device__ inline float to_acc(Bfloat16 x) { return __uint_as_float(uint32_t{x.bits} << 16); }
__device__ inline float to_acc(Float16 x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ inline Float16 to_float16(float x) { return {__half_as_ushort(__float2half_rn(x))}; }
__device__ inline Bfloat16 to_bfloat16(float x) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return {bits};
}

__device__ inline uint32_t tf32_bits(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

#define SEQ2SEQ_EXT_MMA(shape)                                                    \
  asm volatile("mma.sync.aligned." shape                                          \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                   \
               : "r"(low[0]), "r"(high[0]), "r"(low[1]), "r"(high[1]), "r"(b[0]), "r"(b[1]))
template <typename T>
struct Mma;
template <>
struct Mma<Bfloat16> {
  __device__ static uint32_t operand(uint32_t pair) { return pair; }
  __device__ static void run(float (&c)[4], const uint32_t* low, const uint32_t* high,
                             const uint32_t* b) {
    SEQ2SEQ_EXT_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
  }
};
template <>
struct Mma<Float16> {
  __device__ static uint32_t operand(uint32_t pair) { return pair; }
  __device__ static void run(float (&c)[4], const uint32_t* low, const uint32_t* high,
                             const uint32_t* b) {
    SEQ2SEQ_EXT_MMA("m16n8k16.row.col.f32.f16.f16.f32");
  }
};
template <>
struct Mma<float> {
  __device__ static uint32_t operand(uint32_t bits) { return tf32_bits(__uint_as_float(bits)); }
  __device__ static void run(float (&c)[4], const uint32_t* low, const uint32_t* high,
                             const uint32_t* b) {
    SEQ2SEQ_EXT_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
  }
};
#undef SEQ2SEQ_EXT_MMA

// Two instructions: each takes two registers of every chunk.
template <typename T>
__device__ void multiply_chunks(float (&c)[4], const Chunk<T>& a_low, const Chunk<T>& a_high,
                                const Chunk<T>& b_chunk) {
  uint32_t low[4], high[4], b[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    low[i] = Mma<T>::operand(a_low.words[i]);
    high[i] = Mma<T>::operand(a_high.words[i]);
    b[i] = Mma<T>::operand(b_chunk.words[i]);
  }
  Mma<T>::run(c, low, high, b);
  Mma<T>::run(c, low + 2, high + 2, b + 2);
}

inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // which the next launch would be blamed for
  throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

// Threads and blocks are part of the name, for who reads the compiler's report.
template <class Kernel, int kThreads = Kernel::kThreads, int kBlocks = Kernel::kBlocksPerSm>
__global__ void __launch_bounds__(kThreads, kBlocks) run_kernel(const Kernel kernel) {
  extern __shared__ __align__(16) char shared[];
  kernel(shared);
}

// The most dynamic shared memory that a block of it can have on the current device.
template <class Kernel>
int most_shared() {
  int device, most;
  cudaFuncAttributes attributes;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  check(cudaFuncGetAttributes(&attributes, run_kernel<Kernel>));
  return most - static_cast<int>(attributes.sharedSizeBytes);
}

// Always the most: the attribute is the function's, and another thread's may not take it back
// between here and the launch.
template <class Kernel>
void allow_shared(int64_t shared_bytes) {
  static_assert(Kernel::kThreads * Kernel::kBlocksPerSm <= 2048, "more than an SM has places for");
  constexpr int64_t kAlwaysAllowed = 48 * 1024;
  if (shared_bytes > kAlwaysAllowed)
    check(cudaFuncSetAttribute(run_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               most_shared<Kernel>()));
}

inline unsigned check_grid(int64_t blocks) {
  if (blocks > 0x7fffffff)
    throw std::runtime_error("CUDA: expected at most 2^31 - 1 blocks, got " +
                             std::to_string(blocks));
  return static_cast<unsigned>(blocks);
}

template <class Kernel>
void launch(const Kernel& kernel, int64_t blocks, int64_t shared_bytes, Stream stream) {
  if (blocks == 0) return;
  allow_shared<Kernel>(shared_bytes);
  run_kernel<Kernel>
      <<<check_grid(blocks), Kernel::kThreads, shared_bytes, static_cast<cudaStream_t>(stream)>>>(
          kernel);
  check(cudaGetLastError());
}

// All blocks resident at once, so that they may wait for each other. False, and nothing is
// launched, where there is less room than resident_blocks() tells: to this context or process
// belong only some of the multiprocessors (green contexts, MPS).
template <class Kernel>
bool launch_together(const Kernel& kernel, int64_t blocks, int64_t shared_bytes, Stream stream) {
  allow_shared<Kernel>(shared_bytes);
  void* arguments[] = {const_cast<Kernel*>(&kernel)};
  const cudaError_t error = cudaLaunchCooperativeKernel(
      reinterpret_cast<void*>(run_kernel<Kernel>), check_grid(blocks), Kernel::kThreads, arguments,
      shared_bytes, static_cast<cudaStream_t>(stream));
  if (error == cudaErrorCooperativeLaunchTooLarge) {
    cudaGetLastError();
    return false;
  }
  check(error);
  return true;
}

// How many blocks with this much shared memory the current device holds at once; 0 if not one.
template <class Kernel>
int64_t resident_blocks(int64_t shared_bytes) {
  if (shared_bytes > most_shared<Kernel>()) return 0;
  allow_shared<Kernel>(shared_bytes);
  int device, processors, per_processor;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, run_kernel<Kernel>,
                                                      Kernel::kThreads, shared_bytes));
  return int64_t{processors} * per_processor;
}

}  // namespace seq2seq_ext::cuda
