// Argument checks. Every message names the op, the argument, what was expected and what
// came. Kernels and Python never check again.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

namespace seq2seq_ext {

inline void check_defined(const char* op, const char* name, const at::Tensor& t) {
  TORCH_CHECK_TYPE(t.defined(), op, ": ", name, ": expected a Tensor, got None");
}

// A kernel would lose a tangent without a word.
inline void check_differentiable(const char* op, const char* name, const at::Tensor& t) {
  TORCH_CHECK_NOT_IMPLEMENTED(!t._fw_grad(0).defined(), op, ": ", name,
                              ": expected no tangent (forward-mode gradients), got one");
}

inline void check_floating(const char* op, const char* name, const at::Tensor& t) {
  check_defined(op, name, t);
  TORCH_CHECK_TYPE(t.scalar_type() == at::kFloat || t.scalar_type() == at::kDouble, op, ": ", name,
                   ": expected float32 or float64, got ", t.scalar_type());
  check_differentiable(op, name, t);
}

inline void check_like(const char* op, const char* name, const at::Tensor& t,
                       const at::Tensor& like, const char* like_name) {
  check_defined(op, name, t);
  TORCH_CHECK_TYPE(t.scalar_type() == like.scalar_type(), op, ": ", name, ": expected ",
                   like.scalar_type(), " like ", like_name, ", got ", t.scalar_type());
  TORCH_CHECK_VALUE(t.device() == like.device(), op, ": ", name, ": expected on ", like.device(),
                    " like ", like_name, ", got ", t.device());
  check_differentiable(op, name, t);
}

inline void check_shape(const char* op, const char* name, const at::Tensor& t,
                        at::IntArrayRef expected) {
  TORCH_CHECK_VALUE(t.sizes() == expected, op, ": ", name, ": expected shape ", expected, ", got ",
                    t.sizes());
}

inline void check_dim(const char* op, const char* name, const at::Tensor& t, int64_t dim,
                      const char* layout) {
  check_defined(op, name, t);
  TORCH_CHECK_VALUE(t.dim() == dim, op, ": ", name, ": expected ", dim, " dimensions ", layout,
                    ", got shape ", t.sizes());
}

// int64 [batch], each in [0, limit].
inline at::Tensor check_lengths(const char* op, const char* name, const at::Tensor& lengths,
                                int64_t batch, int64_t limit) {
  TORCH_CHECK_TYPE(lengths.scalar_type() == at::kLong, op, ": ", name, ": expected int64, got ",
                   lengths.scalar_type());
  TORCH_CHECK_VALUE(lengths.device().is_cpu(), op, ": ", name, ": expected on cpu, got ",
                    lengths.device());
  check_shape(op, name, lengths, {batch});
  const at::Tensor dense = lengths.contiguous();
  const int64_t* data = dense.const_data_ptr<int64_t>();
  for (int64_t b = 0; b < batch; ++b)
    TORCH_CHECK_VALUE(data[b] >= 0 && data[b] <= limit, op, ": ", name, ": expected values in [0, ",
                      limit, "], got ", data[b], " at row ", b);
  return dense;
}

// Features contiguous; any other stride stays.
inline at::Tensor dense_rows(const at::Tensor& t) {
  return t.size(-1) <= 1 || t.stride(-1) == 1 ? t : t.contiguous();
}

}  // namespace seq2seq_ext
