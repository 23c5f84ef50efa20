// linear_cross_entropy: a linear layer's logits, their softmax and the loss, some rows at a
// time. The gradients are made while the rows' probabilities are in the cache: three products
// where a backward that makes the logits again takes four.
#include "kernels/linear_cross_entropy.h"

#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cmath>
#include <limits>

#include "huge_tensor.h"
#include "linear_cross_entropy_inputs.h"
#include "packed.h"
#include "products.h"

namespace seq2seq_ext {

namespace {

using at::Tensor;

// Logits held at a time: what a last-level cache keeps between its products. As many rows as whole
// chains of the weights' product, whose depth they are.
constexpr int64_t kBlockBytes = int64_t{24} << 20;
constexpr int64_t kFewestRows = 32, kMostRows = 1024, kChain = 64;

int64_t rows_of_block(int64_t row_bytes) {
  const int64_t rows = std::clamp(kBlockBytes / row_bytes, kFewestRows, kMostRows);
  return rows < kChain ? rows : rows / kChain * kChain;
}

std::vector<int64_t> counted_rows(const LossInputs& in) {
  const int64_t* const target = in.target.const_data_ptr<int64_t>();
  std::vector<int64_t> rows;
  for (int64_t n = 0; n < in.target.size(0); ++n)
    if (target[n] != in.ignore_index) rows.push_back(n);
  return rows;
}

template <typename T>
class Loss {
 public:
  Loss(const LossInputs& in, WeightType products, bool save)
      : in_(in),
        products_(products),
        save_(save),
        counted_(counted_rows(in)),
        rows_(counted_.size()),
        hidden_(in.input.size(1)),
        vocabulary_(in.weight.size(0)),
        stretches_((vocabulary_ + kLossLogits - 1) / kLossLogits),
        block_rows_(std::min(rows_of_block(vocabulary_ * sizeof(T)), std::max(rows_, kFewestRows))),
        weight_columns_(pack({in.weight.const_data_ptr<T>(), 1, hidden_}, hidden_, vocabulary_)),
        logits_(huge_empty({block_rows_, vocabulary_}, in.input.options())),
        parts_(block_rows_ * stretches_),
        row_gradients_(block_rows_) {
    const auto options = in.input.options();
    const int64_t all = in.input.size(0);
    grad_input_ = at::empty({save ? all : 0, hidden_}, options);
    if (rows_ < all) grad_input_.zero_();
    grad_weight_ = huge_zeros({save ? vocabulary_ : 0, hidden_}, options);
    grad_bias_ = at::zeros({save && in.bias.defined() ? vocabulary_ : 0}, options);
    if (save)
      weight_rows_ = pack({in.weight.const_data_ptr<T>(), hidden_, 1}, vocabulary_, hidden_);
  }

  LossOutputs run() {
    double sum = 0;
    for (int64_t begin = 0; begin < rows_; begin += block_rows_) {
      begin_ = begin;
      count_ = std::min(block_rows_, rows_ - begin);
      score();
      for (int64_t row = 0; row < count_; ++row) sum += finish_row(row);
      if (save_) differentiate();
    }
    const Tensor loss = at::empty({}, in_.input.options());
    *loss.data_ptr<T>() = static_cast<T>(sum / rows_);
    return {loss, grad_input_, grad_weight_, grad_bias_};
  }

 private:
  const GemmKernels<T>& gemm() const { return kernels<T>().gemm[products_]; }
  static const LinearCrossEntropyKernels<T>& loss() { return kernels<T>().linear_cross_entropy; }
  int64_t panels(int64_t columns) const {
    return (columns + gemm().panel_width - 1) / gemm().panel_width;
  }
  T* logits(int64_t row) const { return logits_.data_ptr<T>() + row * vocabulary_; }
  int64_t target(int64_t row) const {
    return in_.target.const_data_ptr<int64_t>()[counted_[begin_ + row]];
  }
  // The block's rows of [N, H].
  template <typename P, typename Matrix>
  std::vector<P> rows_of(Matrix* matrix) const {
    std::vector<P> rows(count_);
    for (int64_t i = 0; i < count_; ++i) rows[i] = matrix + counted_[begin_ + i] * hidden_;
    return rows;
  }

  Tensor pack(const PackSource<T>& source, int64_t depth, int64_t columns) const {
    return pack_panels(gemm(), source, depth, columns);
  }

  // Logits, and each stretch's part of the loss while it is in the cache.
  void score() {
    const auto a = rows_of<const void*>(in_.input.const_data_ptr<T>());
    const auto c = matrix_rows<T>(logits(0), count_, vocabulary_);
    Gemm<T> product{hidden_,  vocabulary_,
                    a.data(), weight_columns_.const_data_ptr(),
                    c.data(), in_.bias.defined() ? in_.bias.const_data_ptr<T>() : nullptr,
                    false};
    const ReadyRows<T> ready(gemm(), product, count_);
    product.a = ready.data();
    constexpr int64_t kTaskRows = 192;
    const int64_t row_blocks = (count_ + kTaskRows - 1) / kTaskRows;
    parallel(row_blocks * stretches_, 1, [&](int64_t task) {
      const int64_t stretch = task / row_blocks, first = task % row_blocks * kTaskRows;
      const int64_t last = std::min(count_, first + kTaskRows);
      const int64_t begin = stretch * kLossLogits;
      const int64_t n = std::min(kLossLogits, vocabulary_ - begin);
      gemm().multiply(product, first, last, begin / gemm().panel_width, panels(begin + n));
      for (int64_t row = first; row < last; ++row)
        parts_[row * stretches_ + stretch] = loss().part(logits(row) + begin, n);
    });
  }

  // The row's loss; leaves what its gradient needs.
  double finish_row(int64_t row) {
    const LossPart* const parts = &parts_[row * stretches_];
    double max = parts[0].max, sum_exp = 0, sum = 0;
    for (int64_t i = 0; i < stretches_; ++i) {
      if (!(parts[i].max <= max)) max = parts[i].max;
      sum += parts[i].sum;
    }
    for (int64_t i = 0; i < stretches_; ++i)
      sum_exp += parts[i].sum_exp * std::exp(parts[i].max - max);
    const double log_sum_exp = max + std::log(sum_exp), smoothing = in_.label_smoothing;
    const bool is_finite = std::isfinite(log_sum_exp);
    row_gradients_[row] = {static_cast<T>(log_sum_exp),
                           is_finite ? T(1) / rows_ : std::numeric_limits<T>::quiet_NaN(),
                           static_cast<T>(smoothing / vocabulary_), static_cast<T>(1 - smoothing)};
    const double likely = (1 - smoothing) * logits(row)[target(row)];
    const double mean = smoothing == 0 ? 0 : smoothing * sum / vocabulary_;
    return log_sum_exp - likely - mean;
  }

  // Logits to their gradients, and these to the inputs'.
  void differentiate() {
    const auto x = rows_of<const T*>(in_.input.const_data_ptr<T>());
    const Tensor packed_input = pack({nullptr, 0, 1, x.data()}, count_, hidden_);
    const auto columns = a_rows<T>(logits(0), vocabulary_, 1);
    const auto grad_weight = matrix_rows<T>(grad_weight_.data_ptr<T>(), vocabulary_, hidden_);
    const Gemm<T> weight_product{
        count_,  hidden_, columns.data(), packed_input.const_data_ptr(), grad_weight.data(),
        nullptr, true,    vocabulary_};
    parallel(stretches_, 1, [&](int64_t stretch) {
      const int64_t begin = stretch * kLossLogits;
      const int64_t n = std::min(kLossLogits, vocabulary_ - begin);
      // Rows lie far apart: the hardware does not foresee the next.
      for (int64_t row = 0; row < count_; ++row)
        loss().gradient(row_gradients_[row], target(row) - begin, logits(row) + begin, n,
                        logits(std::min(row + 1, count_ - 1)) + begin);
      if (in_.bias.defined())
        loss().add_rows(logits(0) + begin, count_, vocabulary_, grad_bias_.data_ptr<T>() + begin,
                        n);
      Gemm<T> part = weight_product;
      part.a += begin;
      part.c += begin;
      const ReadyRows<T> ready(gemm(), part, n);
      part.a = ready.data();
      gemm().multiply(part, 0, n, 0, panels(hidden_));
    });
    const auto rows = a_rows<T>(logits(0), count_, vocabulary_);
    const auto grad_input = rows_of<T*>(grad_input_.data_ptr<T>());
    parallel_multiply<T>(gemm(),
                         {vocabulary_, hidden_, rows.data(), weight_rows_.const_data_ptr(),
                          grad_input.data(), nullptr, false},
                         count_);
  }

  const LossInputs& in_;
  const WeightType products_;
  const bool save_;
  const std::vector<int64_t> counted_;  // rows whose target is not ignored
  const int64_t rows_, hidden_, vocabulary_, stretches_, block_rows_;
  const Tensor weight_columns_, logits_;
  Tensor weight_rows_;
  Tensor grad_input_, grad_weight_, grad_bias_;
  std::vector<LossPart> parts_;                 // [rows of a block, stretches]
  std::vector<LossGradient<T>> row_gradients_;  // [rows of a block]
  int64_t begin_ = 0, count_ = 0;               // the block at hand
};

LossOutputs linear_cross_entropy(const Tensor& input, const Tensor& weight,
                                 const std::optional<Tensor>& bias, const Tensor& target,
                                 double label_smoothing, std::optional<int64_t> ignore_index,
                                 std::optional<at::ScalarType> dtype, bool save) {
  check_floating(LossInputs::kOp, "input", input);
  const LossInputs in({input, weight, bias, target, label_smoothing, ignore_index});
  const WeightType products = product_type(LossInputs::kOp, input, dtype);
  in.check_target();
  return input.scalar_type() == at::kFloat ? Loss<float>(in, products, save).run()
                                           : Loss<double>(in, products, save).run();
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CPU, m) { m.impl("linear_cross_entropy", &linear_cross_entropy); }

}  // namespace seq2seq_ext
