// What the CUDA ops share: types, lengths and streams. These files see no CUDA header; all of
// CUDA is behind csrc/kernels/cuda.
#pragma once

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>

#include "../check.h"
#include "kernels/cuda/types.h"

namespace seq2seq_ext::cuda {

// The caller's current stream on the tensor's device.
Stream current_stream(const at::Tensor&);

// Whether that device's current stream is recording a CUDA graph.
bool is_capturing(at::Device);

// Whether the host may read it without waiting for a device.
bool is_on_host(const at::Tensor&);

// On the device of an argument, which must be there.
inline c10::DeviceGuard guard_of(const char* op, const char* name, const at::Tensor& t) {
  check_defined(op, name, t);
  return c10::DeviceGuard(t.device());
}

inline void check_type(const char* op, const char* name, const at::Tensor& t) {
  check_defined(op, name, t);
  const at::ScalarType type = t.scalar_type();
  TORCH_CHECK_TYPE(
      type == at::kFloat || type == at::kDouble || type == at::kBFloat16 || type == at::kHalf, op,
      ": ", name, ": expected float32, float64, bfloat16 or float16, got ", type);
  check_differentiable(op, name, t);
}

// body.template operator()<T>() with the kernels' name of a type that check_type let through.
template <class Body>
auto with_type(at::ScalarType type, const Body& body) {
  switch (type) {
    case at::kDouble:
      return body.template operator()<double>();
    case at::kBFloat16:
      return body.template operator()<Bfloat16>();
    case at::kHalf:
      return body.template operator()<Float16>();
    default:
      return body.template operator()<float>();
  }
}

inline at::ScalarType accumulator(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

// Whether float32 may be rounded to TF32: torch.backends.cuda.matmul.fp32_precision, which the
// older allow_tf32 sets too; who asks for that one gets an error once the newer has been set.
inline bool allows_tf32() {
  return at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL) ==
         at::Float32Precision::TF32;
}

// What a differentiable op's products are asked to round both their sides to.
inline at::ScalarType product_dtype(const char* op, const at::Tensor& input,
                                    std::optional<at::ScalarType> asked) {
  const at::ScalarType own = input.scalar_type(), type = asked.value_or(own);
  const bool is_half = type == at::kBFloat16 || type == at::kHalf;
  TORCH_CHECK_VALUE(type == own || (own == at::kFloat && is_half), op, ": dtype: expected ", own,
                    own == at::kFloat ? ", bfloat16 or float16" : "", ", got ", type);
  return type;
}

// Null for an undefined tensor.
template <typename T>
T* data(const at::Tensor& t) {
  return t.defined() ? static_cast<T*>(t.data_ptr()) : nullptr;
}

// int64 [batch] on `device`. Lengths on the host are checked, and no graph captures them: it would
// read them where they no longer are. Those on a GPU are not read, as that would wait for it, and
// kernels clamp them to [0, limit].
inline at::Tensor device_lengths(const char* op, const char* name, const at::Tensor& lengths,
                                 int64_t batch, int64_t limit, at::Device device) {
  if (is_on_host(lengths)) {
    TORCH_CHECK_VALUE(!is_capturing(device), op, ": ", name, ": expected on ", device,
                      " while a CUDA graph is captured, got ", lengths.device());
    const at::Tensor checked = check_lengths(op, name, lengths, batch, limit);
    // From pinned memory a copy that nobody waits for would see what is written there later.
    return checked.to(device, /*non_blocking=*/!checked.is_pinned());
  }
  TORCH_CHECK_TYPE(lengths.scalar_type() == at::kLong, op, ": ", name, ": expected int64, got ",
                   lengths.scalar_type());
  TORCH_CHECK_VALUE(lengths.device() == device, op, ": ", name, ": expected on cpu or ", device,
                    ", got ", lengths.device());
  check_shape(op, name, lengths, {batch});
  return lengths.contiguous();
}

}  // namespace seq2seq_ext::cuda
