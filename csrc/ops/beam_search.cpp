// log_softmax_topk: the row kernel of beam search as an op.
#include "kernels/beam_search.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "check.h"
#include "kernels/isa.h"
#include "parallel.h"

namespace seq2seq_ext {

namespace {

constexpr const char* kOp = "log_softmax_topk";

template <class Body>
void for_each(int64_t count, int64_t grain, const Body& body) {
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  };
  if (max_threads() == 1)
    run(0, count);
  else
    at::parallel_for(0, count, grain, run);
}

// Every row is scanned in the same parts, so neither the batch nor the number of threads
// changes its bits, and one row alone keeps all threads busy.
template <typename T>
void run(const at::Tensor& logits, int64_t k, at::Tensor& log_probs, at::Tensor& tokens) {
  const int64_t rows = logits.size(0), vocab = logits.size(1), stride = logits.stride(0);
  const int64_t part_count = (vocab + kScanLogits - 1) / kScanLogits;
  const int64_t part_k = std::min(k, kScanLogits);
  const T* data = logits.const_data_ptr<T>();
  const at::Tensor kept_logits = at::empty({rows * part_count, part_k}, logits.options());
  const at::Tensor kept_tokens = at::empty({rows * part_count, part_k}, tokens.options());
  T* part_logits = kept_logits.mutable_data_ptr<T>();
  int64_t* part_tokens = kept_tokens.mutable_data_ptr<int64_t>();
  std::vector<RowPart<T>> parts(rows * part_count);

  const int64_t part_size = std::min(vocab, kScanLogits);
  for_each(rows * part_count, 1 + 4096 / part_size, [&](int64_t i) {
    const int64_t begin = i % part_count * kScanLogits;
    parts[i].logits = part_logits + i * part_k;
    parts[i].tokens = part_tokens + i * part_k;
    kernels<T>().beam_search.scan(data + i / part_count * stride, begin,
                                  std::min(vocab, begin + kScanLogits), part_k, &parts[i]);
  });

  T* out_log_probs = log_probs.mutable_data_ptr<T>();
  int64_t* out_tokens = tokens.mutable_data_ptr<int64_t>();
  for_each(rows, 1 + 16384 / (part_count * k), [&](int64_t row) {
    merge_parts(data + row * stride, &parts[row * part_count], part_count, k,
                out_log_probs + row * k, out_tokens + row * k);
  });
}

std::tuple<at::Tensor, at::Tensor> log_softmax_topk(const at::Tensor& logits, int64_t k) {
  check_floating(kOp, "logits", logits);
  check_dim(kOp, "logits", logits, 2, "[rows, V]");
  TORCH_CHECK_VALUE(logits.size(1) > 0, kOp, ": logits: expected V >= 1, got shape ",
                    logits.sizes());
  TORCH_CHECK_VALUE(k >= 1 && k <= logits.size(1), kOp, ": k: expected 1 to V = ", logits.size(1),
                    ", got ", k);
  const at::Tensor dense = dense_rows(logits);
  at::Tensor log_probs = at::empty({logits.size(0), k}, logits.options());
  at::Tensor tokens = at::empty({logits.size(0), k}, logits.options().dtype(at::kLong));
  if (logits.scalar_type() == at::kFloat)
    run<float>(dense, k, log_probs, tokens);
  else
    run<double>(dense, k, log_probs, tokens);
  return {log_probs, tokens};
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CPU, m) { m.impl("log_softmax_topk", &log_softmax_topk); }

}  // namespace seq2seq_ext
