// Log-softmax and top-k of rows of logits, or of a linear layer's logits that nobody keeps.
#include "kernels/topk.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/isa.h"
#include "linear.h"
#include "packed.h"
#include "parallel.h"
#include "topk_inputs.h"

namespace seq2seq_ext {

namespace {

using at::Tensor;
using Results = std::tuple<Tensor, Tensor>;

Results empty_results(const Tensor& like, int64_t rows, int64_t k) {
  return {at::empty({rows, k}, like.options()),
          at::empty({rows, k}, like.options().dtype(at::kLong))};
}

// What scanning leaves of each row, for some readers.
template <typename T>
class Scanned {
 public:
  Scanned(int64_t rows, int64_t vocabulary, int64_t k, int64_t readers)
      : rows_(rows),
        k_(k),
        readers_(readers),
        blocks_(topk_blocks(vocabulary)),
        sums_(std::make_unique_for_overwrite<BlockSum[]>(rows * blocks_)),
        tokens_(std::make_unique_for_overwrite<Token<T>[]>(rows * readers * k)),
        lists_(rows * readers) {
    for (int64_t i = 0; i < rows * readers; ++i) lists_[i] = {tokens_.get() + i * k};
  }

  int64_t blocks() const { return blocks_; }
  BlockSum* sums(int64_t row = 0) const { return sums_.get() + row * blocks_; }
  BestTokens<T>* lists(int64_t row = 0) { return lists_.data() + row * readers_; }

  void merge_to(const Results& results) {
    T* log_probs = std::get<0>(results).template mutable_data_ptr<T>();
    int64_t* tokens = std::get<1>(results).template mutable_data_ptr<int64_t>();
    parallel(rows_, 1 + 16384 / (blocks_ + readers_ * k_), [&](int64_t row) {
      merge<T>({sums(row), blocks_, lists(row), readers_}, k_, log_probs + row * k_,
               tokens + row * k_);
    });
  }

 private:
  const int64_t rows_, k_, readers_, blocks_;
  const std::unique_ptr<BlockSum[]> sums_;
  const std::unique_ptr<Token<T>[]> tokens_;
  std::vector<BestTokens<T>> lists_;
};

// One row alone keeps all threads busy.
template <typename T>
Results scan_logits(const Tensor& logits, int64_t k) {
  const int64_t rows = logits.size(0), vocabulary = logits.size(1), stride = logits.stride(0);
  const int64_t threads = max_threads(), blocks = topk_blocks(vocabulary);
  const int64_t readers =
      rows == 0 ? 1 : std::clamp<int64_t>((threads + rows - 1) / rows, 1, (blocks + 7) / 8);
  Scanned<T> scanned(rows, vocabulary, k, readers);
  const T* data = logits.const_data_ptr<T>();
  parallel(rows * readers, 1 + 4096 / (vocabulary / readers + 1), [&](int64_t task) {
    const int64_t row = task / readers, reader = task % readers;
    const Share share = Reader{reader, readers}.blocks(blocks);
    for (int64_t block = share.begin; block < share.end; ++block) {
      const int64_t first = block * kTopkBlock;
      kernels<T>().topk.scan(data + row * stride + first, first,
                             std::min(kTopkBlock, vocabulary - first), k, scanned.sums(row) + block,
                             scanned.lists(row) + reader);
    }
  });
  const Results results = empty_results(logits, rows, k);
  scanned.merge_to(results);
  return results;
}

// Rows of a matrix as the product reads them.
template <typename T>
class EncodedRows {
 public:
  EncodedRows(const GemmKernels<T>& gemm, const Tensor& x, int64_t rows, int64_t depth)
      : pointers_(rows) {
    const T* data = x.const_data_ptr<T>();
    const int64_t bytes = gemm.encodes ? gemm.row_bytes(depth) : 0;
    if (gemm.encodes) encoded_ = std::make_unique_for_overwrite<char[]>(rows * bytes + 64);
    parallel(rows, 1 + 65536 / (depth + 1), [&](int64_t row) {
      pointers_[row] = data + row * depth;
      if (!gemm.encodes) return;
      gemm.encode(data + row * depth, 1, depth, encoded_.get() + row * bytes);
      pointers_[row] = encoded_.get() + row * bytes;
    });
  }

  const void* const* pointers() const { return pointers_.data(); }

 private:
  std::vector<const void*> pointers_;
  std::unique_ptr<char[]> encoded_;
};

template <typename T>
Results scan_linear(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                    const Tensor& packed, int64_t k) {
  const int64_t vocabulary = weight.size(0), depth = weight.size(1), rows = input.size(0);
  const auto& gemm = kernels<T>().gemm[weight_type(packed.scalar_type())];
  const Tensor x = input.contiguous(), b = bias ? bias->contiguous() : Tensor();
  const EncodedRows<T> a(gemm, x, rows, depth);
  const int64_t threads = max_threads();
  const int64_t readers = std::clamp<int64_t>(threads, 1, topk_blocks(vocabulary));
  Scanned<T> scanned(rows, vocabulary, k, readers);
  const LinearTopk<T> work{gemm,
                           kernels<T>().topk,
                           depth,
                           vocabulary,
                           a.pointers(),
                           rows,
                           packed.const_data_ptr(),
                           bias ? b.const_data_ptr<T>() : nullptr,
                           k,
                           scanned.sums(),
                           scanned.lists()};
  const int64_t least_work = 1'000'000 / (1 + rows * depth * vocabulary / readers);
  parallel(rows == 0 ? 0 : readers, 1 + least_work, [&](int64_t reader) {
    const auto logits = std::make_unique_for_overwrite<T[]>(linear_topk_workspace<T>(rows));
    std::vector<T*> c(rows);
    scan_products(work, {reader, readers}, logits.get(), c.data());
  });
  const Results results = empty_results(input, rows, k);
  scanned.merge_to(results);
  return results;
}

Results log_softmax_topk(const Tensor& logits, int64_t k) {
  const char* op = "log_softmax_topk";
  check_floating(op, "logits", logits);
  check_logits(op, logits, k);
  const Tensor dense = dense_rows(logits);
  return logits.scalar_type() == at::kFloat ? scan_logits<float>(dense, k)
                                            : scan_logits<double>(dense, k);
}

Results linear_log_softmax_topk(const Tensor& input, const Tensor& weight,
                                const std::optional<Tensor>& bias,
                                const std::optional<Tensor>& given, int64_t k) {
  const char* op = "linear_log_softmax_topk";
  check_dim(op, "input", input, 2, "[rows, I]");
  const Tensor packed = check_linear(op, input, weight, bias, given);
  TORCH_CHECK_VALUE(weight.size(0) > 0, op, ": weight: expected V >= 1, got shape ",
                    weight.sizes());
  check_k(op, k, weight.size(0));
  return weight.scalar_type() == at::kFloat ? scan_linear<float>(input, weight, bias, packed, k)
                                            : scan_linear<double>(input, weight, bias, packed, k);
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CPU, m) {
  m.impl("log_softmax_topk", &log_softmax_topk);
  m.impl("linear_log_softmax_topk", &linear_log_softmax_topk);
}

}  // namespace seq2seq_ext
