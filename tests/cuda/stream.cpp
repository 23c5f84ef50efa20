// The emulated device has no streams: a launch is done when it returns. It has no memory of its own
// either, but may claim all there is.
#include "emulator.h"
#include "ops/cuda/device.h"

namespace seq2seq_ext::cuda {

Stream current_stream(const at::Tensor&) { return nullptr; }

bool is_capturing(at::Device) { return emulator::device().captures; }

bool is_on_host(const at::Tensor&) { return !emulator::device().owns_memory; }

}  // namespace seq2seq_ext::cuda
