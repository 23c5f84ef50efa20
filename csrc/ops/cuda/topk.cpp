#include "kernels/cuda/topk.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "../topk_inputs.h"
#include "kernels/search/nucleus.h"
#include "linear.h"

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;
using Results = std::tuple<Tensor, Tensor>;
using RuledResults = std::tuple<Tensor, Tensor, Tensor>;

// As TopkRules, and TopkNoise.
struct Rules {
  std::optional<Tensor> listed, seen;  // [rows, 1 + any]
  double temperature = 1, penalty = 1;
  std::optional<Tensor> floors;  // [rows, 2]: a double's word, a token
  std::optional<Tensor> places;  // [rows, 2]
};

struct Choice {
  int64_t rows, vocabulary, k;
  Rules rules;
};

void check_list(const char* op, const char* name, const std::optional<Tensor>& list, int64_t rows,
                at::Device device) {
  if (!list) return;
  TORCH_CHECK_TYPE(list->scalar_type() == at::kLong, op, ": ", name, ": expected int64, got ",
                   list->scalar_type());
  check_dim(op, name, *list, 2, "[rows, 1 + tokens]");
  TORCH_CHECK_VALUE(list->device() == device, op, ": ", name, ": expected on ", device, ", got ",
                    list->device());
  TORCH_CHECK_VALUE(list->size(0) == rows && list->size(1) > 0 && list->is_contiguous(), op, ": ",
                    name, ": expected contiguous [", rows, ", 1 or more], got shape ",
                    list->sizes());
}

void check_rules(const char* op, const Choice& choice, at::Device device) {
  const Rules& rules = choice.rules;
  check_list(op, "listed", rules.listed, choice.rows, device);
  check_list(op, "seen", rules.seen, choice.rows, device);
  TORCH_CHECK_VALUE(rules.temperature > 0, op, ": temperature: expected above 0, got ",
                    rules.temperature);
  check_list(op, "floors", rules.floors, choice.rows, device);
  if (rules.floors) check_shape(op, "floors", *rules.floors, {choice.rows, 2});
  check_list(op, "places", rules.places, choice.rows, device);
  if (rules.places) check_shape(op, "places", *rules.places, {choice.rows, 2});
  TORCH_CHECK_VALUE(rules.penalty > 0, op, ": penalty: expected above 0, got ", rules.penalty);
}

template <typename A>
TopkRules<A> kernel_rules(const Rules& rules) {
  TopkRules<A> told{static_cast<A>(rules.temperature), static_cast<A>(rules.penalty)};
  if (rules.seen) told.seen = data<const int64_t>(*rules.seen);
  if (rules.seen) told.seen_stride = rules.seen->size(1);
  if (rules.listed) told.listed = data<const int64_t>(*rules.listed);
  if (rules.listed) told.listed_stride = rules.listed->size(1);
  if (rules.floors) told.floors = static_cast<const Token<double>*>(rules.floors->const_data_ptr());
  return told;
}

// Scratch and results of TopkNoise, of no elements where there is none.
struct Noise {
  Noise(const Choice& choice, const Tensor& like) : places(choice.rules.places) {
    const auto options = like.options().dtype(at::kDouble);
    const int64_t rows = places ? choice.rows : 0;
    offered =
        at::empty({rows * topk_lists(choice.vocabulary) * topk_offers(choice.k, true)}, options);
    perturbed = at::empty({rows, choice.k}, options);
  }

  TopkNoise kernels() const {
    if (!places) return {};
    return {static_cast<const NoisePlace*>(places->const_data_ptr()), data<double>(offered),
            data<double>(perturbed)};
  }

  std::optional<Tensor> places;
  Tensor offered, perturbed;
};

// run.template operator()<T>(TopkRows<T>) with results and scratch for rows like `like`'s.
// Log-probs have the type of sums: a search adds them up.
template <class Run>
RuledResults choose(const char* op, const Tensor& like, const Choice& choice, const Run& run) {
  const int64_t rows = choice.rows, vocabulary = choice.vocabulary, k = choice.k;
  check_rules(op, choice, like.device());
  const auto bytes = like.options().dtype(at::kByte);
  const int64_t lists = rows * topk_lists(vocabulary);
  const Tensor log_probs =
      at::empty({rows, k}, like.options().dtype(accumulator(like.scalar_type())));
  const Tensor tokens = at::empty({rows, k}, like.options().dtype(at::kLong));
  const Tensor sums = at::empty({lists * static_cast<int64_t>(sizeof(BlockSum))}, bytes);
  const Noise noise(choice, like);
  with_type(like.scalar_type(), [&]<typename T>() {
    using Offer = Token<Acc<T>>;
    const int64_t offers = lists * topk_offers(k, noise.places.has_value());
    const Tensor best = at::empty({offers * static_cast<int64_t>(sizeof(Offer))}, bytes);
    run.template operator()<T>(TopkRows<T>{
        rows, vocabulary, k, data<BlockSum>(sums), data<Offer>(best), data<Acc<T>>(log_probs),
        data<int64_t>(tokens), kernel_rules<Acc<T>>(choice.rules), noise.kernels()});
  });
  return {log_probs, tokens, noise.perturbed};
}

RuledResults topk_under(const Rules& rules, const Tensor& any_logits, int64_t k) {
  const char* op = "log_softmax_topk";
  const c10::DeviceGuard guard = guard_of(op, "logits", any_logits);
  check_type(op, "logits", any_logits);
  check_logits(op, any_logits, k);
  const Tensor logits = dense_rows(any_logits);
  const Choice choice{logits.size(0), logits.size(1), k, rules};
  return choose(op, logits, choice, [&]<typename T>(const TopkRows<T>& in) {
    log_softmax_topk<T>(in, data<const T>(logits), logits.stride(0), current_stream(logits));
  });
}

// As the ops on the CPU return them.
Results narrowed(const RuledResults& found, const Tensor& like) {
  return {std::get<0>(found).to(like.scalar_type()), std::get<1>(found)};
}

Results topk(const Tensor& logits, int64_t k) {
  return narrowed(topk_under({}, logits, k), logits);
}

RuledResults ruled_topk(const Tensor& logits, const std::optional<Tensor>& listed,
                        const std::optional<Tensor>& seen, double temperature, double penalty,
                        const std::optional<Tensor>& floors, const std::optional<Tensor>& places,
                        int64_t k) {
  return topk_under({listed, seen, temperature, penalty, floors, places}, logits, k);
}

Tensor nucleus(const Tensor& any_logits, const std::optional<Tensor>& listed,
               const std::optional<Tensor>& seen, double temperature, double penalty, int64_t top_k,
               double top_p) {
  const char* op = "beam_search_nucleus";
  const c10::DeviceGuard guard(any_logits.device());
  const at::ScalarType type = any_logits.scalar_type();
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kDouble, op,
                   ": logits: expected float32 or float64, got ", type);
  check_logits(op, any_logits, 1);
  TORCH_CHECK_VALUE(top_k >= 0, op, ": top_k: expected at least 0, got ", top_k);
  TORCH_CHECK_VALUE(top_p > 0 && top_p <= 1, op, ": top_p: expected above 0 and at most 1, got ",
                    top_p);
  const Tensor logits = dense_rows(any_logits);
  const int64_t rows = logits.size(0), vocabulary = logits.size(1);
  const Rules rules{listed, seen, temperature, penalty, {}, {}};
  check_rules(op, {rows, vocabulary, 1, rules}, logits.device());
  const Tensor floors = at::empty({rows, 2}, logits.options().dtype(at::kLong));
  const Tensor ruled = at::empty({rows, vocabulary}, logits.options());
  const auto find = [&]<typename A>(A) {
    find_nucleus<A>(
        {rows, vocabulary, data<const A>(logits), logits.stride(0), kernel_rules<A>(rules), top_k,
         wanted_shares(top_p), data<A>(ruled), static_cast<Token<double>*>(floors.data_ptr())},
        current_stream(logits));
  };
  type == at::kDouble ? find(double{}) : find(float{});
  return floors;
}

RuledResults linear_topk_under(const Rules& rules, const Tensor& input, const Tensor& weight,
                               const std::optional<Tensor>& bias,
                               const std::optional<Tensor>& packed, int64_t k) {
  const char* op = "linear_log_softmax_topk";
  const c10::DeviceGuard guard = guard_of(op, "weight", weight);
  check_dim(op, "input", input, 2, "[rows, I]");
  const LinearInputs x(op, input, weight, bias, packed);
  TORCH_CHECK_VALUE(weight.size(0) > 0, op, ": weight: expected V >= 1, got shape ",
                    weight.sizes());
  check_k(op, k, weight.size(0));
  const Choice choice{x.rows(), weight.size(0), k, rules};
  return choose(op, input, choice, [&]<typename T>(const TopkRows<T>& in) {
    linear_log_softmax_topk<T>(in, x.product<T>(), allows_tf32(), current_stream(input));
  });
}

Results linear_topk(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                    const std::optional<Tensor>& packed, int64_t k) {
  return narrowed(linear_topk_under({}, input, weight, bias, packed, k), input);
}

RuledResults ruled_linear_topk(const Tensor& input, const Tensor& weight,
                               const std::optional<Tensor>& bias,
                               const std::optional<Tensor>& packed,
                               const std::optional<Tensor>& listed,
                               const std::optional<Tensor>& seen, double temperature,
                               double penalty, const std::optional<Tensor>& places, int64_t k) {
  return linear_topk_under({listed, seen, temperature, penalty, {}, places}, input, weight, bias,
                           packed, k);
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CUDA, m) {
  m.impl("log_softmax_topk", &topk);
  m.impl("log_softmax_topk.ruled", &ruled_topk);
  m.impl("beam_search_nucleus", &nucleus);
  m.impl("linear_log_softmax_topk", &linear_topk);
  m.impl("linear_log_softmax_topk.ruled", &ruled_linear_topk);
}

}  // namespace seq2seq_ext::cuda
