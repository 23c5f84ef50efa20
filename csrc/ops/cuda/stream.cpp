#include <torch/version.h>

#include "device.h"

// Without libc10_cuda where torch can say it, so that this compiles with any build of torch.
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13
#include <c10/core/impl/VirtualGuardImpl.h>
#else
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace seq2seq_ext::cuda {

Stream current_stream(const at::Tensor& t) {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13
  return c10::impl::VirtualGuardImpl(t.device().type()).getStream(t.device()).native_handle();
#else
  return c10::cuda::getCurrentCUDAStream(t.device().index()).stream();
#endif
}

bool is_capturing(at::Device device) {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13
  const c10::impl::VirtualGuardImpl guard(device.type());
  return guard.isStreamCapturing(guard.getStream(device));
#else
  const c10::DeviceGuard guard(device);
  return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
#endif
}

bool is_on_host(const at::Tensor& t) { return t.device().is_cpu(); }

}  // namespace seq2seq_ext::cuda
