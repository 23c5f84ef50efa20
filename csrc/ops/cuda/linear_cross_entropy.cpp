// Some rows at a time, as on the CPU: their logits, the gradients in the logits' place, and the
// products that take them. The device is never waited for.
#include "kernels/cuda/linear_cross_entropy.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <type_traits>

#include "../linear_cross_entropy_inputs.h"
#include "device.h"
#include "kernels/cuda/gemm.h"

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;

// Logits held at a time. Weights and their gradients pass by once for each block of rows, so that
// there should be some hundred of them whatever V is.
constexpr int64_t kBlockBytes = int64_t{128} << 20;
constexpr int64_t kFewestRows = 256, kMostRows = 1024;

// to += a b; both of T, `to` of T or its accumulator.
void add_product(const Tensor& to, const Tensor& a, const Tensor& b) {
  if (to.scalar_type() == a.scalar_type())
    Tensor(to).addmm_(a, b);
  else
    Tensor(to).add_(at::mm(a, b));
}

template <typename T>
class Loss {
 public:
  // products: the type of both sides of products.
  Loss(const LossInputs& in, at::ScalarType products, bool save)
      : in_(in),
        save_(save),
        rows_(in.input.size(0)),
        hidden_(in.input.size(1)),
        vocabulary_(in.weight.size(0)),
        block_rows_(
            std::min(rows_, std::clamp<int64_t>(kBlockBytes / (vocabulary_ * sizeof(Acc<T>)),
                                                kFewestRows, kMostRows))),
        input_(in.input.to(products)),
        weight_(in.weight.to(products)) {
    if (in.ignore_index) {
      ignored_ = in.target.eq(*in.ignore_index);
      input_ = input_.masked_fill(ignored_.unsqueeze(1), 0);  // or gradients of 0 find NaNs there
    }
    const auto wide = input_.options().dtype(accumulator(products));
    if (in.bias.defined()) bias_ = in.bias.to(accumulator(products));
    losses_ = at::empty({rows_}, wide.dtype(at::kDouble));
    logits_ = at::empty({block_rows_, vocabulary_}, wide);
    grad_input_ = at::empty({save ? rows_ : 0, hidden_}, wide);
    grad_weight_ = at::zeros({save ? vocabulary_ : 0, hidden_}, wide);
    grad_bias_ = at::zeros({save && bias_.defined() ? vocabulary_ : 0}, wide);
    if (!save) return;
    transposed_ = weight_.t().contiguous();
    gradients_ = std::is_same_v<T, Acc<T>>
                     ? logits_
                     : at::empty({block_rows_, vocabulary_}, input_.options());
  }

  LossOutputs run() {
    for (int64_t begin = 0; begin < rows_; begin += block_rows_) {
      const int64_t count = std::min(block_rows_, rows_ - begin);
      score(begin, count);
      if (save_) differentiate(begin, count);
    }
    const auto type = in_.input.scalar_type();
    const Tensor counted = ignored_.defined() ? ignored_.logical_not().sum()
                                              : losses_.new_full({}, rows_, losses_.options());
    const Tensor at_least_one = counted.clamp_min(1);
    const auto mean = [&](Tensor& sum) { return sum.div_(at_least_one).to(type); };
    return {losses_.sum().div_(counted).to(type), mean(grad_input_), mean(grad_weight_),
            mean(grad_bias_)};
  }

 private:
  // Logits to losses, and to their gradients where these are wanted.
  void score(int64_t begin, int64_t count) {
    gemm<T>({count, vocabulary_, hidden_, matrix(data<const T>(input_) + begin * hidden_, hidden_),
             data<const T>(weight_), hidden_, data<const Acc<T>>(bias_)},
            data<Acc<T>>(logits_), true, allows_tf32(), stream_);
    const bool* const ignored = ignored_.defined() ? data<const bool>(ignored_) + begin : nullptr;
    loss_rows<T>(
        {count, vocabulary_, in_.label_smoothing, data<const int64_t>(in_.target) + begin, ignored,
         data<const Acc<T>>(logits_), data<T>(gradients_), data<double>(losses_) + begin},
        stream_);
  }

  // The 1/N of the mean comes last: halves would lose small gradients to it.
  void differentiate(int64_t begin, int64_t count) {
    gemm<T>({count, hidden_, vocabulary_, matrix(data<const T>(gradients_), vocabulary_),
             data<const T>(transposed_), vocabulary_, nullptr},
            data<Acc<T>>(grad_input_) + begin * hidden_, true, allows_tf32(), stream_);
    const Tensor gradients = gradients_.narrow(0, 0, count);
    add_product(grad_weight_, gradients.t(), input_.narrow(0, begin, count));
    if (bias_.defined()) grad_bias_.add_(gradients.sum(0, false, grad_bias_.scalar_type()));
  }

  const LossInputs& in_;
  const bool save_;
  const int64_t rows_, hidden_, vocabulary_, block_rows_;
  Tensor input_;
  const Tensor weight_;
  const Stream stream_ = current_stream(input_);
  Tensor ignored_;             // bool [N], or undefined
  Tensor bias_, transposed_;   // undefined where there is none, or no gradient is wanted
  Tensor logits_, gradients_;  // [rows of a block, V]
  Tensor losses_;              // [N]
  Tensor grad_input_, grad_weight_, grad_bias_;  // of the losses' sum
};

LossOutputs linear_cross_entropy(const Tensor& input, const Tensor& weight,
                                 const std::optional<Tensor>& bias, const Tensor& target,
                                 double label_smoothing, std::optional<int64_t> ignore_index,
                                 std::optional<at::ScalarType> dtype, bool save) {
  const c10::DeviceGuard guard = guard_of(LossInputs::kOp, "input", input);
  check_type(LossInputs::kOp, "input", input);
  const LossInputs in({input, weight, bias, target, label_smoothing, ignore_index});
  const at::ScalarType products = product_dtype(LossInputs::kOp, input, dtype);
  if (is_on_host(target)) in.check_target();
  return with_type(products, [&]<typename T>() { return Loss<T>(in, products, save).run(); });
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CUDA, m) { m.impl("linear_cross_entropy", &linear_cross_entropy); }

}  // namespace seq2seq_ext::cuda
