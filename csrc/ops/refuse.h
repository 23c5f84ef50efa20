// What an op says to tensors that none of its kernels takes: sparse ones, those of a device it
// has no kernel for, or no tensor at all.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <string>
#include <vector>

namespace seq2seq_ext {

inline void refuse_tensor(const std::string& op, const std::string& name, const at::Tensor& t) {
  TORCH_CHECK_TYPE(t.defined(), op, ": ", name, ": expected a Tensor, got None");
  const bool is_plain = t.layout() == at::kStrided && !t.is_nested() && !t.is_quantized();
  TORCH_CHECK_VALUE(is_plain && t.device().is_cpu(), op, ": ", name,
                    ": expected a strided tensor on cpu, got ", t.is_nested() ? "a nested " : "",
                    t.toString(), " on ", t.device());
}

// The boxed kernel of every backend without one of its own.
inline void refuse(const c10::OperatorHandle& handle, torch::jit::Stack* stack) {
  const c10::FunctionSchema& schema = handle.schema();
  const std::string op = schema.name().substr(schema.name().rfind(':') + 1);
  const auto& arguments = schema.arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const c10::IValue& value = torch::jit::peek(*stack, i, arguments.size());
    if (value.isTensor()) refuse_tensor(op, arguments[i].name(), value.toTensor());
    if (!value.isTensorList()) continue;
    const std::vector<at::Tensor> list = value.toTensorVector();
    TORCH_CHECK_VALUE(!list.empty(), op, ": ", arguments[i].name(), ": expected tensors, got none");
    for (const at::Tensor& t : list) refuse_tensor(op, arguments[i].name(), t);
  }
  TORCH_CHECK(false, op, ": expected strided tensors on cpu");
}

}  // namespace seq2seq_ext
