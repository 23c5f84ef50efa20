#include "kernels/cuda/topk.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "../topk_inputs.h"
#include "linear.h"

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;
using Results = std::tuple<Tensor, Tensor>;

struct Choice {
  int64_t rows, vocabulary, k;
  std::optional<Tensor> listed;  // [rows, 1 + any], as TopkRows'
};

void check_listed(const char* op, const Choice& choice, const Tensor& like) {
  const Tensor& listed = *choice.listed;
  TORCH_CHECK_TYPE(listed.scalar_type() == at::kLong, op, ": listed: expected int64, got ",
                   listed.scalar_type());
  check_dim(op, "listed", listed, 2, "[rows, 1 + tokens]");
  TORCH_CHECK_VALUE(listed.device() == like.device(), op, ": listed: expected on ", like.device(),
                    ", got ", listed.device());
  TORCH_CHECK_VALUE(listed.size(0) == choice.rows && listed.size(1) > 0 && listed.is_contiguous(),
                    op, ": listed: expected contiguous [", choice.rows, ", 1 or more], got shape ",
                    listed.sizes());
}

// run.template operator()<T>(TopkRows<T>) with results and scratch for rows like `like`'s.
// Log-probs have the type of sums: a search adds them up.
template <class Run>
Results choose(const char* op, const Tensor& like, const Choice& choice, const Run& run) {
  const int64_t rows = choice.rows, vocabulary = choice.vocabulary, k = choice.k;
  if (choice.listed) check_listed(op, choice, like);
  const auto bytes = like.options().dtype(at::kByte);
  const int64_t lists = rows * topk_lists(vocabulary);
  const Tensor log_probs =
      at::empty({rows, k}, like.options().dtype(accumulator(like.scalar_type())));
  const Tensor tokens = at::empty({rows, k}, like.options().dtype(at::kLong));
  const Tensor sums = at::empty({lists * static_cast<int64_t>(sizeof(BlockSum))}, bytes);
  with_type(like.scalar_type(), [&]<typename T>() {
    using Offer = Token<Acc<T>>;
    const int64_t offers = lists * topk_offers(k);
    const Tensor best = at::empty({offers * static_cast<int64_t>(sizeof(Offer))}, bytes);
    run.template operator()<T>(TopkRows<T>{
        rows, vocabulary, k, data<BlockSum>(sums), data<Offer>(best), data<Acc<T>>(log_probs),
        data<int64_t>(tokens), choice.listed ? data<const int64_t>(*choice.listed) : nullptr,
        choice.listed ? choice.listed->size(1) : 0});
  });
  return {log_probs, tokens};
}

Results topk_without(const Tensor& any_logits, const std::optional<Tensor>& listed, int64_t k) {
  const char* op = "log_softmax_topk";
  const c10::DeviceGuard guard(any_logits.device());
  check_type(op, "logits", any_logits);
  check_logits(op, any_logits, k);
  const Tensor logits = dense_rows(any_logits);
  const Choice choice{logits.size(0), logits.size(1), k, listed};
  return choose(op, logits, choice, [&]<typename T>(const TopkRows<T>& in) {
    log_softmax_topk<T>(in, data<const T>(logits), logits.stride(0), current_stream(logits));
  });
}

// As the ops on the CPU return them.
Results narrowed(const Results& found, const Tensor& like) {
  return {std::get<0>(found).to(like.scalar_type()), std::get<1>(found)};
}

Results topk(const Tensor& logits, int64_t k) {
  return narrowed(topk_without(logits, std::nullopt, k), logits);
}

Results linear_topk_without(const Tensor& input, const Tensor& weight,
                            const std::optional<Tensor>& bias, const std::optional<Tensor>& packed,
                            const std::optional<Tensor>& listed, int64_t k) {
  const char* op = "linear_log_softmax_topk";
  const c10::DeviceGuard guard(weight.device());
  check_dim(op, "input", input, 2, "[rows, I]");
  const LinearInputs x(op, input, weight, bias, packed);
  TORCH_CHECK_VALUE(weight.size(0) > 0, op, ": weight: expected V >= 1, got shape ",
                    weight.sizes());
  check_k(op, k, weight.size(0));
  const Choice choice{x.rows(), weight.size(0), k, listed};
  return choose(op, input, choice, [&]<typename T>(const TopkRows<T>& in) {
    linear_log_softmax_topk<T>(in, x.product<T>(), allows_tf32(), current_stream(input));
  });
}

Results linear_topk(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                    const std::optional<Tensor>& packed, int64_t k) {
  return narrowed(linear_topk_without(input, weight, bias, packed, std::nullopt, k), input);
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CUDA, m) {
  m.impl("log_softmax_topk", &topk);
  m.impl("log_softmax_topk.without", &topk_without);
  m.impl("linear_log_softmax_topk", &linear_topk);
  m.impl("linear_log_softmax_topk.without", &linear_topk_without);
}

}  // namespace seq2seq_ext::cuda
