// Ops without a kernel for the CPU: there the search is the host's, see kernels/beam_search.h.
#include "kernels/cuda/beam_search.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <tuple>

#include "device.h"

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;

EarlyStopping early_stopping_of(const char* op, c10::string_view name) {
  if (name == "exact") return EarlyStopping::kExact;
  if (name == "heuristic") return EarlyStopping::kHeuristic;
  if (name == "first") return EarlyStopping::kFirst;
  TORCH_CHECK_VALUE(name == "none", op, ": early_stopping: expected 'exact', 'heuristic', ",
                    "'first' or 'none', got '", name, "'");
  return EarlyStopping::kNone;
}

Sampling sampling_of(const char* op, c10::string_view name) {
  if (name == "none") return Sampling::kNone;
  if (name == "ancestral") return Sampling::kAncestral;
  TORCH_CHECK_VALUE(name == "gumbel", op, ": sampling: expected 'none', 'ancestral' or 'gumbel', ",
                    "got '", name, "'");
  return Sampling::kGumbel;
}

// A struct's words as the last dimension of a tensor.
template <class Struct>
constexpr int64_t kWords = sizeof(Struct) / 8;

// Of a search's state, like its sums.
void check_part(const char* op, const Tensor& sums, const char* name, const Tensor& t,
                at::ScalarType type, at::IntArrayRef shape) {
  TORCH_CHECK_TYPE(t.scalar_type() == type, op, ": ", name, ": expected ", type, ", got ",
                   t.scalar_type());
  TORCH_CHECK_VALUE(t.device() == sums.device(), op, ": ", name, ": expected on ", sums.device(),
                    " like sums, got ", t.device());
  check_shape(op, name, t, shape);
  TORCH_CHECK_VALUE(t.is_contiguous(), op, ": ", name, ": expected a contiguous tensor");
}

std::tuple<Tensor, Tensor> step(const Tensor& any_log_probs, const Tensor& any_candidates,
                                const Tensor& sums, const Tensor& counters, const Tensor& pool,
                                const Tensor& nodes, const Tensor& eos_ids, const Tensor& scores,
                                const std::optional<Tensor>& terms, bool ranks_with_coverage,
                                int64_t min_length, c10::string_view early_stopping,
                                bool eos_beyond_beam, bool full_pool_is_closed, bool count_eos,
                                int64_t monotone_from, int64_t pad_id, double diversity,
                                c10::string_view sampling, const std::optional<Tensor>& perturbed,
                                const std::optional<Tensor>& keys,
                                const std::optional<Tensor>& places) {
  const char* op = "beam_search_step";
  const c10::DeviceGuard guard(sums.device());
  check_dim(op, "sums", sums, 3, "[B, G, K]");
  const int64_t sentences = sums.size(0), groups = sums.size(1), beams = sums.size(2);
  const int64_t rows = sums.numel();
  check_dim(op, "log_probs", any_log_probs, 2, "[N, W]");
  const int64_t width = any_log_probs.size(1);
  check_dim(op, "pool", pool, 4, "[B, G, P, words]");
  check_dim(op, "nodes", nodes, 3, "[max_length, N, words]");
  const int64_t ends = pool.size(2), max_length = nodes.size(0);
  const auto check = [&](const char* name, const Tensor& t, at::ScalarType type,
                         at::IntArrayRef shape) { check_part(op, sums, name, t, type, shape); };
  const Tensor log_probs = any_log_probs.to(at::kDouble).contiguous();
  const Tensor candidates = any_candidates.contiguous();
  check("sums", sums, at::kDouble, sums.sizes());
  check("log_probs", log_probs, at::kDouble, {rows, width});
  check("candidates", candidates, at::kLong, {rows, width});
  check("counters", counters, at::kLong, {sentences, groups, kWords<SearchCounters>});
  check("pool", pool, at::kLong, {sentences, groups, ends, kWords<EndedSearch>});
  check("nodes", nodes, at::kLong, {max_length, rows, kWords<SearchNode>});
  check("eos_ids", eos_ids, at::kLong, {eos_ids.numel()});
  check("scores", scores, at::kDouble, {2, max_length + 1, kWords<LengthScore>});
  if (terms) check("terms", *terms, at::kDouble, {2, rows});
  const Sampling sampled = sampling_of(op, sampling);
  const bool is_gumbel = sampled == Sampling::kGumbel;
  TORCH_CHECK_VALUE(!is_gumbel || (perturbed && keys), op,
                    ": perturbed, keys: expected tensors under 'gumbel'");
  TORCH_CHECK_VALUE(sampled == Sampling::kNone || places, op,
                    ": places: expected a tensor under sampling");
  if (is_gumbel) check("perturbed", *perturbed, at::kDouble, {rows, width});
  if (is_gumbel) check("keys", *keys, at::kDouble, sums.sizes());
  if (places) check("places", *places, at::kLong, {rows, kWords<NoisePlace>});
  TORCH_CHECK_VALUE(ends > 0 && max_length > 0 && rows > 0, op,
                    ": expected at least one place in the pool, one step and one row");
  const SearchRules rules{sentences,
                          groups,
                          beams,
                          width,
                          ends,
                          max_length,
                          min_length,
                          pad_id,
                          early_stopping_of(op, early_stopping),
                          eos_beyond_beam,
                          full_pool_is_closed,
                          count_eos,
                          monotone_from,
                          data<const int64_t>(eos_ids),
                          eos_ids.numel(),
                          static_cast<const LengthScore*>(scores.const_data_ptr()),
                          ranks_with_coverage,
                          sampled,
                          diversity};
  const SearchState state{data<double>(sums),
                          static_cast<SearchCounters*>(counters.data_ptr()),
                          static_cast<EndedSearch*>(pool.data_ptr()),
                          static_cast<SearchNode*>(nodes.data_ptr()),
                          is_gumbel ? data<double>(*keys) : nullptr,
                          places ? static_cast<NoisePlace*>(places->data_ptr()) : nullptr};
  const bool is_ranked = is_gumbel || diversity > 0;
  const int64_t ranked = is_ranked ? rows * width : 0;
  const Tensor ranked_keys = at::empty({ranked}, sums.options());
  const Tensor order = at::empty({ranked}, candidates.options());
  const Tensor tokens = at::empty({rows}, candidates.options());
  const Tensor parents = at::empty_like(tokens);
  beam_search_step(
      rules, state,
      {data<const double>(log_probs), data<const int64_t>(candidates),
       terms ? data<const double>(*terms) : nullptr,
       is_gumbel ? data<const double>(*perturbed) : nullptr,
       is_ranked ? data<double>(ranked_keys) : nullptr, is_ranked ? data<int64_t>(order) : nullptr},
      data<int64_t>(tokens), data<int64_t>(parents), current_stream(sums));
  return {tokens, parents};
}

std::tuple<Tensor, Tensor, Tensor> draw_some(const Tensor& any_log_probs, const Tensor& candidates,
                                             const Tensor& places, int64_t width) {
  const char* op = "beam_search_draw";
  const c10::DeviceGuard guard(any_log_probs.device());
  check_dim(op, "log_probs", any_log_probs, 2, "[N, candidates]");
  const int64_t rows = any_log_probs.size(0), count = any_log_probs.size(1);
  const Tensor log_probs = any_log_probs.to(at::kDouble).contiguous();
  check_part(op, log_probs, "candidates", candidates, at::kLong, {rows, count});
  check_part(op, log_probs, "places", places, at::kLong, {rows, kWords<NoisePlace>});
  TORCH_CHECK_VALUE(count <= kMostDrawnFrom, op, ": candidates: expected at most ", kMostDrawnFrom,
                    " of a row, got ", count);
  TORCH_CHECK_VALUE(width >= 1 && width <= count, op, ": width: expected 1 to ", count, ", got ",
                    width);
  const Tensor drawn = at::empty({rows, width}, log_probs.options());
  const Tensor tokens = at::empty({rows, width}, candidates.options());
  const Tensor perturbed = at::empty_like(drawn);
  draw({rows, count, width, static_cast<const NoisePlace*>(places.const_data_ptr()),
        data<const double>(log_probs), data<const int64_t>(candidates), data<double>(drawn),
        data<int64_t>(tokens), data<double>(perturbed)},
       current_stream(log_probs));
  return {drawn, tokens, perturbed};
}

std::tuple<Tensor, Tensor> grow(const Tensor& coverage, const Tensor& any_attention,
                                const Tensor& lengths, c10::string_view penalty, double beta) {
  const char* op = "beam_search_coverage";
  const c10::DeviceGuard guard(coverage.device());
  TORCH_CHECK_VALUE(penalty == "gnmt" || penalty == "summary", op,
                    ": penalty: expected 'gnmt' or 'summary', got '", penalty, "'");
  check_dim(op, "coverage", coverage, 2, "[N, S]");
  const int64_t rows = coverage.size(0), positions = coverage.size(1), sentences = lengths.numel();
  const Tensor attention = any_attention.to(at::kDouble).contiguous();
  check_part(op, coverage, "coverage", coverage, at::kDouble, coverage.sizes());
  check_part(op, coverage, "attention", attention, at::kDouble, {rows, positions});
  check_part(op, coverage, "lengths", lengths, at::kLong, {sentences});
  TORCH_CHECK_VALUE(sentences > 0 && rows % sentences == 0, op,
                    ": lengths: expected as many for each of ", rows, " rows, got ", sentences);
  const Tensor grown = at::empty_like(coverage);
  const Tensor terms = at::empty({2, rows}, coverage.options());
  grow_coverage(
      {penalty == "gnmt" ? CoveragePenalty::kGnmt : CoveragePenalty::kSummary, beta, sentences,
       rows / sentences, positions, data<const int64_t>(lengths), data<const double>(coverage),
       data<const double>(attention), data<double>(grown), data<double>(terms)},
      current_stream(coverage));
  return {grown, terms};
}

std::tuple<Tensor, Tensor> list_rules(const Tensor& sums, const Tensor& counters,
                                      const Tensor& nodes, const Tensor& eos_ids,
                                      int64_t min_length, int64_t ngram_size,
                                      std::optional<int64_t> bos_id, const Tensor& banned,
                                      const Tensor& prefix, bool force_eos, bool lists_seen) {
  const char* op = "beam_search_rules";
  const c10::DeviceGuard guard(sums.device());
  check_dim(op, "sums", sums, 3, "[B, G, K]");
  check_dim(op, "nodes", nodes, 3, "[max_length, N, words]");
  check_dim(op, "banned", banned, 2, "[sequences, 1 + longest]");
  SearchRules search{};
  search.sentences = sums.size(0), search.groups = sums.size(1), search.beams = sums.size(2);
  search.max_length = nodes.size(0);
  const int64_t rows = search.rows();
  const auto check = [&](const char* name, const Tensor& t, at::IntArrayRef shape) {
    check_part(op, sums, name, t, at::kLong, shape);
  };
  check("counters", counters, {search.sentences, search.groups, kWords<SearchCounters>});
  check("nodes", nodes, {search.max_length, rows, kWords<SearchNode>});
  check("eos_ids", eos_ids, {eos_ids.numel()});
  check("banned", banned, banned.sizes());
  check("prefix", prefix, {prefix.numel()});
  TORCH_CHECK_VALUE(ngram_size >= 0, op, ": ngram_size: expected at least 0, got ", ngram_size);
  TORCH_CHECK_VALUE(search.max_length <= kLongestPath, op, ": nodes: expected at most ",
                    kLongestPath, " steps, got ", search.max_length);
  search.eos_ids = data<const int64_t>(eos_ids), search.eos_count = eos_ids.numel();
  search.min_length = min_length;
  TokenRules rules{ngram_size,
                   bos_id.value_or(kNoToken),
                   data<const int64_t>(banned),
                   banned.size(0),
                   banned.size(1),
                   data<const int64_t>(prefix),
                   prefix.numel(),
                   force_eos,
                   nullptr,
                   nullptr};
  const SearchState state{nullptr, static_cast<SearchCounters*>(counters.data_ptr()),
                          nullptr, static_cast<SearchNode*>(nodes.data_ptr()),
                          nullptr, nullptr};
  const Tensor listed = at::empty({rows, listed_size(rules, search)}, nodes.options());
  const Tensor seen = at::empty({rows, lists_seen ? seen_size(search) : 0}, nodes.options());
  rules.listed = data<int64_t>(listed);
  if (lists_seen) rules.seen = data<int64_t>(seen);
  list_tokens(rules, search, state, current_stream(sums));
  return {listed, seen};
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CUDA, m) {
  m.impl("beam_search_step", &step);
  m.impl("beam_search_draw", &draw_some);
  m.impl("beam_search_coverage", &grow);
  m.impl("beam_search_rules", &list_rules);
}

}  // namespace seq2seq_ext::cuda
