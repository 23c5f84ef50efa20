// The host asks for a few launches a step and waits for none: input projection before the loop,
// cells, attention and combination in it.
#include "attentional_decoder.h"

#include <torch/library.h>

#include "kernels/cuda/gemm.h"

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;

template <typename T>
class Forward {
  using A = Acc<T>;

 public:
  explicit Forward(const DecoderBatch& d)
      : d_(d), layers_(d.sizes.layers), hidden_(d.sizes.hidden), memory_(d.sizes.memory) {
    const auto options = d.input.options();
    saved_ = at::zeros({d.batch, d.steps, d.row().size}, options);
    output_ = at::zeros({d.batch, d.steps, hidden_}, options);
    weights_ = at::empty({d.steps, d.batch, d.sizes.source}, options);
    contexts_ = at::empty({d.steps, d.batch, memory_}, options);
    for (int64_t l = 0; l < layers_; ++l) {
      biases_.push_back(d.layer_bias(l));
      panels_.push_back(pack_panels<T>(d, d.layer_weight(l), d.gate_rows() / hidden_, false));
    }
    combine_ = pack_panels<T>(d, d.combine_weight, 1, false);
    if (d.is_additive()) query_ = pack_panels<T>(d, d.query_weight, 1, false);
    start();
    project_inputs();
  }

  DecoderOutputs run(bool save) {
    for (int64_t s = 0; s < d_.steps; ++s) {
      for (int64_t l = 0; l < layers_; ++l) advance(l, s);
      if (d_.attends()) attend(s);
      combine(s);
    }
    if (d_.attends()) d_.part(saved_, d_.row().context, memory_).copy_(contexts_.transpose(0, 1));
    return {output_, weights_.transpose(0, 1).contiguous(),
            save ? saved_ : d_.empty({0, d_.steps, d_.row().size})};
  }

 private:
  // [input; h_prev] of each layer as its product takes it, for this step and the next one.
  void start() {
    const auto options = d_.input.options().dtype(d_.products);
    operands_ = at::zeros({2, layers_, d_.batch, 2 * hidden_}, options);
    joined_ = at::zeros({d_.batch, memory_ + hidden_}, options);
    operands_[0].narrow(2, hidden_, hidden_).copy_(d_.h_0);
    operands_[0][0].narrow(1, 0, hidden_).copy_(d_.vector_0);
  }

  StepRows<T> operand(int64_t s, int64_t l, int64_t column) const {
    const int64_t slab = s % 2 * layers_ + l;
    return {data<T>(operands_) + slab * d_.batch * 2 * hidden_ + column, 2 * hidden_};
  }
  StepRows<T> joined(int64_t column) const {
    return {data<T>(joined_) + column, memory_ + hidden_};
  }
  static StepInput<T> product(const StepRows<T>& rows, int64_t depth, const Tensor& panels) {
    return {{rows.data, rows.stride}, depth, data<const T>(panels)};
  }

  // What the first layer's gates get of the embedded tokens, and of its bias.
  void project_inputs() {
    const Tensor input = d_.rounded(d_.input), weight = d_.rounded(d_.embedding_weight());
    const int64_t rows = d_.gate_rows(), depth = d_.embedding;
    projected_ = d_.empty({d_.batch, d_.steps, rows});
    gemm<T>({d_.batch * d_.steps, rows, depth, matrix(data<const T>(input), depth),
             data<const T>(weight), depth, data<const A>(biases_[0])},
            data<A>(projected_), true, allows_tf32(), d_.stream);
  }

  void advance(int64_t l, int64_t s) {
    const bool is_top = l + 1 == layers_;
    const int64_t begin = l * d_.row().layer, state = d_.state(l);
    CellStep<T> step{};
    step.at = d_.step(s);
    step.cell = d_.cell;
    step.hidden = hidden_;
    step.input = product(operand(s, l, 0), 2 * hidden_, panels_[l]);
    step.addends =
        l == 0 ? d_.at<const A>(projected_, s) : StepRows<const A>{data<const A>(biases_[l]), 0};
    step.h_prev = d_.before<A>(saved_, d_.h_0, l, s, state);
    step.c_prev = d_.before<A>(saved_, d_.c_0, l, s, state - hidden_);
    step.saved = d_.at<A>(saved_, s, begin);
    step.next = operand(s + 1, l, hidden_);
    step.up = is_top ? joined(memory_) : operand(s, l + 1, 0);
    step.mask = d_.layer_mask<A>(l, s);
    cell_step<T>(step, d_.stream);
  }

  void attend(int64_t s) {
    if (d_.is_additive()) {
      ProductStep<T> step{};
      step.at = d_.step(s);
      step.columns = step.split = d_.sizes.attention;
      step.input = product(joined(memory_), hidden_, query_);
      step.left = d_.at<A>(saved_, s, d_.row().query);
      product_step<T>(step, d_.stream);
    }
    A* const contexts = data<A>(contexts_) + s * d_.batch * memory_;
    A* const weights = data<A>(weights_) + s * d_.batch * d_.sizes.source;
    attention_forward<A>(d_.attention<A>(saved_, s), {contexts, weights, weights}, d_.stream);
    round_step<T>({d_.step(s), memory_, {contexts, memory_}, joined(0)}, d_.stream);
  }

  void combine(int64_t s) {
    combine_step<T>({d_.step(s), hidden_, product(joined(0), memory_ + hidden_, combine_),
                     d_.at<const A>(d_.vector_mask, s), d_.at<A>(saved_, s, d_.row().vector),
                     d_.at<A>(output_, s), operand(s + 1, 0, 0)},
                    d_.stream);
  }

  const DecoderBatch& d_;
  const int64_t layers_, hidden_, memory_;
  std::vector<Tensor> biases_, panels_;  // by layer
  Tensor combine_, query_;               // panels
  Tensor operands_, joined_;             // of products, by row
  Tensor projected_;                     // [B, T, G'*H]
  Tensor saved_, output_;                // [B, T, ...]
  Tensor weights_, contexts_;            // [T, B, ...]
};

DecoderOutputs attentional_decoder(
    const Tensor& input, const std::optional<Tensor>& lengths, const Tensor& vector_0,
    at::TensorList states, at::TensorList weights, c10::string_view cell,
    const Tensor& combine_weight, const std::optional<Tensor>& memory,
    const std::optional<Tensor>& keys, const std::optional<Tensor>& memory_lengths,
    const std::optional<Tensor>& query_weight, const std::optional<Tensor>& v, double scale,
    const std::optional<Tensor>& layer_masks, const std::optional<Tensor>& vector_mask,
    std::optional<at::ScalarType> dtype, bool save) {
  const c10::DeviceGuard guard = guard_of("attentional_decoder", "input", input);
  const DecoderBatch batch({"attentional_decoder", input, lengths, vector_0, states, weights,
                            std::string(cell), combine_weight, memory, keys, memory_lengths,
                            query_weight, v, scale, layer_masks, vector_mask},
                           dtype);
  return with_type(batch.products, [&]<typename T>() { return Forward<T>(batch).run(save); });
}

DecoderGradients backward(const Tensor& grad_output, const std::optional<Tensor>& grad_weights,
                          const Tensor& input, const std::optional<Tensor>& lengths,
                          const Tensor& vector_0, at::TensorList states, at::TensorList weights,
                          c10::string_view cell, const Tensor& combine_weight,
                          const std::optional<Tensor>& memory, const std::optional<Tensor>& keys,
                          const std::optional<Tensor>& memory_lengths,
                          const std::optional<Tensor>& query_weight, const std::optional<Tensor>& v,
                          double scale, const std::optional<Tensor>& layer_masks,
                          const std::optional<Tensor>& vector_mask,
                          std::optional<at::ScalarType> dtype, const Tensor& alignment,
                          const Tensor& saved) {
  const c10::DeviceGuard guard = guard_of("attentional_decoder_backward", "input", input);
  const DecoderBatch batch({"attentional_decoder_backward", input, lengths, vector_0, states,
                            weights, std::string(cell), combine_weight, memory, keys,
                            memory_lengths, query_weight, v, scale, layer_masks, vector_mask},
                           dtype);
  return decoder_backward(batch, grad_output, grad_weights, alignment, saved);
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CUDA, m) {
  m.impl("attentional_decoder", &attentional_decoder);
  m.impl("attentional_decoder_backward", &backward);
}

}  // namespace seq2seq_ext::cuda
