#include "kernels/cuda/topk.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <tuple>

#include "../topk_inputs.h"
#include "linear.h"

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;
using Results = std::tuple<Tensor, Tensor>;

// run.template operator()<T>(TopkRows<T>) with results and scratch for rows like `like`'s.
template <class Run>
Results choose(const Tensor& like, int64_t rows, int64_t vocabulary, int64_t k, const Run& run) {
  const auto bytes = like.options().dtype(at::kByte);
  const int64_t lists = rows * topk_lists(vocabulary);
  const Tensor log_probs = at::empty({rows, k}, like.options());
  const Tensor tokens = at::empty({rows, k}, like.options().dtype(at::kLong));
  const Tensor sums = at::empty({lists * static_cast<int64_t>(sizeof(BlockSum))}, bytes);
  with_type(like.scalar_type(), [&]<typename T>() {
    using Offer = Token<Acc<T>>;
    const int64_t offers = lists * topk_offers(k);
    const Tensor best = at::empty({offers * static_cast<int64_t>(sizeof(Offer))}, bytes);
    run.template operator()<T>(TopkRows<T>{rows, vocabulary, k, data<BlockSum>(sums),
                                           data<Offer>(best), data<T>(log_probs),
                                           data<int64_t>(tokens)});
  });
  return {log_probs, tokens};
}

Results topk(const Tensor& any_logits, int64_t k) {
  const char* op = "log_softmax_topk";
  const c10::DeviceGuard guard(any_logits.device());
  check_type(op, "logits", any_logits);
  check_logits(op, any_logits, k);
  const Tensor logits = dense_rows(any_logits);
  return choose(logits, logits.size(0), logits.size(1), k, [&]<typename T>(const TopkRows<T>& in) {
    log_softmax_topk<T>(in, data<const T>(logits), logits.stride(0), current_stream(logits));
  });
}

Results linear_topk(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                    const std::optional<Tensor>& packed, int64_t k) {
  const char* op = "linear_log_softmax_topk";
  const c10::DeviceGuard guard(weight.device());
  check_dim(op, "input", input, 2, "[rows, I]");
  const LinearInputs x(op, input, weight, bias, packed);
  TORCH_CHECK_VALUE(weight.size(0) > 0, op, ": weight: expected V >= 1, got shape ",
                    weight.sizes());
  check_k(op, k, weight.size(0));
  return choose(input, x.rows(), weight.size(0), k, [&]<typename T>(const TopkRows<T>& in) {
    linear_log_softmax_topk<T>(in, x.product<T>(), allows_tf32(), current_stream(input));
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CUDA, m) {
  m.impl("log_softmax_topk", &topk);
  m.impl("linear_log_softmax_topk", &linear_topk);
}

}  // namespace seq2seq_ext::cuda
