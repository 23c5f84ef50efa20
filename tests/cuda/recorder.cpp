// A CUDA runtime without a device: it starts nothing, and writes down what the host code of kernels
// asks for. It has the functions that they need and no others, so that what links with it neither
// allocates nor waits; and it refuses what hardware would.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "ops/cuda/device.h"

namespace {

constexpr int kProcessors = 132, kShared = 227 * 1024, kReserved = 1024, kAlways = 48 * 1024;
const auto kStream = reinterpret_cast<cudaStream_t>(uintptr_t{0x5eed});

struct Launch {
  std::string name;
  int64_t blocks, threads, shared;
  bool on_stream, together, refused;
};

struct Recorder {
  std::map<const void*, std::string> names;
  std::map<const void*, int64_t> allowed;  // shared memory, where more than always is
  std::vector<Launch> launches;
  int64_t failing = -1;  // the launch that fails
  int64_t refusals = 0;  // so many launches of blocks that wait for each other are too large
  cudaError_t last = cudaSuccess;
  struct {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
  } pushed;
};

Recorder& recorder() {
  static Recorder recorder;
  return recorder;
}

cudaError_t told(cudaError_t error) {
  if (error != cudaSuccess) recorder().last = error;
  return error;
}

int64_t resident(int64_t threads, int64_t shared) {
  const int64_t by_threads = 2048 / threads,
                by_shared = (kShared + kReserved) / (shared + kReserved);
  return by_threads < by_shared ? by_threads : by_shared;
}

cudaError_t launch(const void* function, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                   bool together) {
  Recorder& r = recorder();
  const bool is_flat = grid.y * grid.z * block.y * block.z == 1;
  const int64_t allowed = r.allowed.count(function) ? r.allowed[function] : kAlways;
  cudaError_t error = cudaSuccess;
  if (!is_flat || grid.x - 1 >= 0x7fffffff || block.x - 1 >= 1024 ||
      static_cast<int64_t>(shared) > allowed)
    error = cudaErrorInvalidConfiguration;
  else if (static_cast<int64_t>(r.launches.size()) == r.failing)
    error = cudaErrorLaunchOutOfResources;
  else if (together && (r.refusals-- > 0 || grid.x > kProcessors * resident(block.x, shared)))
    error = cudaErrorCooperativeLaunchTooLarge;
  r.launches.push_back({r.names[function], grid.x, block.x, static_cast<int64_t>(shared),
                        stream == kStream, together, error != cudaSuccess});
  return told(error);
}

}  // namespace

extern "C" {

// Of the object files that nvcc makes.
void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, uint3*,
                            uint3*, dim3*, dim3*, int*) {
  recorder().names[function] = name;
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  recorder().pushed = {grid, block, shared, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  const auto& pushed = recorder().pushed;
  *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared;
  *static_cast<cudaStream_t*>(stream) = pushed.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void**, size_t shared,
                               cudaStream_t stream) {
  return launch(kernel, grid, block, shared, stream, false);
}
// Before CUDA 13.
cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void**, size_t shared,
                             cudaStream_t stream) {
  return launch(function, grid, block, shared, stream, false);
}

cudaError_t cudaLaunchCooperativeKernel(const void* function, dim3 grid, dim3 block, void**,
                                        size_t shared, cudaStream_t stream) {
  return launch(function, grid, block, shared, stream, true);
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  if (attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin)
    *value = kShared;
  else if (attribute == cudaDevAttrMultiProcessorCount)
    *value = kProcessors;
  else
    return told(cudaErrorInvalidValue);
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value > kShared)
    return told(cudaErrorInvalidValue);
  recorder().allowed[function] = value;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*,
                                                                   int threads, size_t shared,
                                                                   unsigned) {
  *blocks = static_cast<int>(resident(threads, static_cast<int64_t>(shared)));
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  const cudaError_t last = recorder().last;
  recorder().last = cudaSuccess;
  return last;
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorLaunchOutOfResources ? "a launch that fails"
                                                : "not as hardware takes it";
}

// For tests.
void recorder_begin(int64_t failing, int64_t refusals) {
  Recorder& r = recorder();
  r.launches.clear();
  r.failing = failing, r.refusals = refusals;
}
int64_t recorder_count() { return static_cast<int64_t>(recorder().launches.size()); }
const char* recorder_launch(int64_t i, int64_t* told) {
  const Launch& launch = recorder().launches[i];
  const int64_t all[] = {launch.blocks,    launch.threads,  launch.shared,
                         launch.on_stream, launch.together, launch.refused};
  std::memcpy(told, all, sizeof(all));
  return launch.name.c_str();
}
}

namespace seq2seq_ext::cuda {

Stream current_stream(const at::Tensor&) { return kStream; }

bool is_capturing(at::Device) { return false; }

bool is_on_host(const at::Tensor&) { return false; }

}  // namespace seq2seq_ext::cuda
