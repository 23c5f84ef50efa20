// Single launches, for tensors too large to stand beside all else that their op makes.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <numeric>
#include <vector>

#include "kernels/cuda/attentional_decoder.h"
#include "kernels/cuda/linear_cross_entropy.h"

namespace seq2seq_ext::cuda::emulator {

namespace {

using at::Tensor;

// Rows of logits [N, V] become their gradients; gives their losses.
Tensor loss(const Tensor& target, double label_smoothing, const Tensor& logits) {
  const Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(at::kDouble));
  loss_rows<float>(
      {logits.size(0), logits.size(1), label_smoothing, target.const_data_ptr<int64_t>(), nullptr,
       logits.const_data_ptr<float>(), logits.data_ptr<float>(), losses.data_ptr<double>()},
      nullptr);
  return losses;
}

// to [B, columns] = rows [B, depth] weight^T, rows as far apart as they lie.
void decoder_product(const Tensor& rows, const Tensor& weight, const Tensor& to) {
  const int64_t batch = rows.size(0), columns = weight.size(0), depth = weight.size(1);
  const Tensor panels = at::empty({step_panels_size<float>(1, columns, depth)}, weight.options());
  pack_step_panels<float>({weight.const_data_ptr<float>(), depth, 1, 1, columns, depth},
                          panels.data_ptr<float>(), nullptr);
  std::vector<int64_t> places(batch);
  std::iota(places.begin(), places.end(), 0);
  ProductStep<float> step{};
  step.at = {batch, 0, places.data(), &batch, false};
  step.columns = step.split = columns;
  step.input = {
      {rows.const_data_ptr<float>(), rows.stride(0)}, depth, panels.const_data_ptr<float>()};
  step.left = {to.data_ptr<float>(), to.stride(0)};
  product_step<float>(step, nullptr);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(seq2seq_ext_emulator, m) {
  m.def("loss(Tensor target, float label_smoothing, Tensor(a!) logits) -> Tensor", &loss);
  m.def("decoder_product(Tensor rows, Tensor weight, Tensor(a!) to) -> ()", &decoder_product);
}

}  // namespace seq2seq_ext::cuda::emulator
