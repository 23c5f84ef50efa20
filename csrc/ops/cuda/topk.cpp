#include "kernels/cuda/topk.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <tuple>

#include "../topk_inputs.h"
#include "device.h"

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;

std::tuple<Tensor, Tensor> topk(const Tensor& any_logits, int64_t k) {
  const char* op = "log_softmax_topk";
  const c10::DeviceGuard guard(any_logits.device());
  check_type(op, "logits", any_logits);
  check_logits(op, any_logits, k);
  const Tensor logits = dense_rows(any_logits);
  const int64_t rows = logits.size(0), vocabulary = logits.size(1);
  const int64_t lists = rows * topk_parts(vocabulary);
  const auto bytes = logits.options().dtype(at::kByte);
  const Tensor log_probs = at::empty({rows, k}, logits.options());
  const Tensor tokens = at::empty({rows, k}, logits.options().dtype(at::kLong));
  const Tensor sums = at::empty({lists * static_cast<int64_t>(sizeof(BlockSum))}, bytes);
  with_type(logits.scalar_type(), [&]<typename T>() {
    using Offer = Token<Acc<T>>;
    const int64_t offers = lists * topk_offers(vocabulary, k);
    const Tensor best = at::empty({offers * static_cast<int64_t>(sizeof(Offer))}, bytes);
    log_softmax_topk<T>(
        {rows, vocabulary, k, data<const T>(logits), logits.stride(0), data<BlockSum>(sums),
         data<Offer>(best), data<T>(log_probs), data<int64_t>(tokens)},
        current_stream(logits));
  });
  return {log_probs, tokens};
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CUDA, m) { m.impl("log_softmax_topk", &topk); }

}  // namespace seq2seq_ext::cuda
