// Backward of the attentional decoder: the loop gives the gradients of what enters each product,
// then a few large products give those of the weights, the inputs, the keys and the memory.
#include <ATen/Functions.h>

#include "attentional_decoder.h"

namespace seq2seq_ext {

namespace {

using at::Tensor;

template <typename T>
class Backward {
 public:
  Backward(const DecoderBatch& d, const Tensor& weights, const Tensor& saved)
      : d_(d),
        weights_(weights),
        saved_(saved),
        ragged_(d.ragged->view()),
        hidden_(d.sizes.hidden),
        merged_(d.merged * hidden_),
        gate_rows_(d.gates * hidden_),
        total_(d.ragged->total()) {}

  DecoderGradients run(const Tensor& grad_output, const T* grad_weights) {
    run_loop(grad_output, grad_weights);
    differentiate_layers();
    differentiate_combine();
    if (d_.attends()) differentiate_attention();
    return std::move(g_);
  }

 private:
  void run_loop(const Tensor& grad_output, const T* grad_weights) {
    const int64_t layers = d_.sizes.layers, width = d_.sizes.attention;
    g_.h_0 = at::zeros_like(d_.h_0);
    g_.c_0 = d_.c_0.defined() ? at::zeros_like(d_.c_0) : d_.empty({0, d_.batch, hidden_});
    g_.vector_0 = at::zeros_like(d_.vector_0);
    grad_gates_ = d_.empty({layers, total_, gate_rows_});
    grad_split_ = d_.empty({layers, total_, gate_rows_ - merged_});
    grad_vector_ = d_.empty({total_, hidden_});
    grad_query_ = d_.empty({d_.is_additive() ? total_ : 0, width});
    grad_context_ = d_.empty({d_.batch, d_.steps, d_.sizes.memory});
    grad_scores_ = d_.empty({d_.batch, d_.steps, d_.sizes.source});
    std::vector<DecoderProduct<T>> input(layers), merged(layers), split(layers);
    for (int64_t l = 0; l < layers; ++l) {
      const Tensor &w = d_.weight_ih(l), &w_h = d_.weight_hh(l);
      input[l] = product(l == 0 ? w.narrow(1, d_.embedding, hidden_) : w);
      merged[l] = product(w_h.narrow(0, 0, merged_));
      if (merged_ < gate_rows_) split[l] = product(w_h.narrow(0, merged_, gate_rows_ - merged_));
    }
    const Tensor& w = d_.combine_weight;
    const std::vector<DecoderLayer<T>> states = d_.layers<T>();
    const auto slabs = [](const Tensor& t) {
      return matrix_rows<T>(t.data_ptr<T>(), t.size(0), t.stride(0));
    };
    const auto gates = slabs(grad_gates_), apart = slabs(grad_split_), h = slabs(g_.h_0);
    auto c = slabs(g_.c_0);
    c.resize(layers);
    AttentionalDecoderBackward<T> args{
        d_.inputs<T>(states),
        input.data(),
        merged.data(),
        split.data(),
        d_.is_additive() ? product(d_.query_weight) : DecoderProduct<T>{},
        d_.attends() ? product(w.narrow(1, 0, d_.sizes.memory)) : DecoderProduct<T>{},
        product(w.narrow(1, d_.sizes.memory, hidden_)),
        saved_.const_data_ptr<T>(),
        weights_.const_data_ptr<T>(),
        grad_output.const_data_ptr<T>(),
        grad_weights,
        gates.data(),
        apart.data(),
        grad_vector_.template data_ptr<T>(),
        grad_query_.template data_ptr<T>(),
        grad_context_.template data_ptr<T>(),
        grad_scores_.template data_ptr<T>(),
        h.data(),
        c.data(),
        g_.vector_0.template data_ptr<T>(),
        nullptr};
    run_decoder<T>(d_, args, attentional_decoder_backward<T>);
  }

  // grad weight.
  DecoderProduct<T> product(const Tensor& weight) {
    const int64_t depth = weight.size(0), columns = weight.size(1);
    kept_.push_back(pack_panels<T>(d_.gemm<T>(), {weight.const_data_ptr<T>(), weight.stride(0), 1},
                                   depth, columns));
    return {depth, columns, kept_.back().const_data_ptr(), nullptr};
  }

  const T* saved_row(int64_t i, int64_t t) const {
    return saved_.const_data_ptr<T>() + (i * d_.steps + t) * d_.row().size;
  }
  // A part of the saved rows, in packed order.
  std::vector<const T*> saved_rows(int64_t part) const {
    return packed_rows<const T>(ragged_,
                                [&](int64_t i, int64_t t) { return saved_row(i, t) + part; });
  }
  // What a step read of the one before: [B, H] at step 0.
  template <class Row>
  std::vector<const T*> previous_rows(const T* initial, const Row& row) const {
    return packed_rows<const T>(ragged_, [&](int64_t i, int64_t t) {
      return t > 0 ? row(i, t - 1) : initial + i * hidden_;
    });
  }

  void differentiate_layers() {
    const int64_t layers = d_.sizes.layers;
    g_.input = huge_zeros({d_.batch, d_.steps, d_.embedding}, d_.input.options());
    g_.weight_ih_0 = d_.empty({gate_rows_, d_.embedding + hidden_});
    g_.weight_ih = d_.empty({layers - 1, gate_rows_, hidden_});
    g_.weight_hh = d_.empty({layers, gate_rows_, hidden_});
    g_.bias_ih = grad_gates_.sum(1);
    g_.bias_hh = at::cat({g_.bias_ih.narrow(1, 0, merged_), grad_split_.sum(1)}, 1);
    for (int64_t l = 0; l < layers; ++l) {
      const Tensor grad = grad_gates_[l];
      const int64_t state = l * d_.row().layer + d_.row().state;
      const auto before =
          previous_rows(d_.h_0.const_data_ptr<T>() + l * d_.batch * hidden_,
                        [&](int64_t i, int64_t t) { return saved_row(i, t) + state; });
      weight_gradient<T>(d_.gemm<T>(), grad.narrow(1, 0, merged_), before,
                         g_.weight_hh[l].narrow(0, 0, merged_));
      if (merged_ < gate_rows_)
        weight_gradient<T>(d_.gemm<T>(), grad_split_[l], before,
                           g_.weight_hh[l].narrow(0, merged_, gate_rows_ - merged_));
      if (l > 0) differentiate_input(l);
    }
    differentiate_first_input();
  }

  // weight_ih of a layer above the first.
  void differentiate_input(int64_t l) {
    const int64_t below = (l - 1) * d_.row().layer + d_.row().state;
    auto rows = saved_rows(below);
    Tensor masked;
    if (d_.layer_masks.defined()) {
      masked = d_.empty({total_, hidden_});
      const T* mask = d_.layer_masks.const_data_ptr<T>() + (l - 1) * d_.batch * d_.steps * hidden_;
      const auto masks = packed_rows<const T>(
          ragged_, [&](int64_t i, int64_t t) { return mask + (i * d_.steps + t) * hidden_; });
      parallel(total_, 64, [&](int64_t n) {
        T* const to = masked.data_ptr<T>() + n * hidden_;
        kernels<T>().attentional_decoder.apply_mask(hidden_, rows[n], masks[n], to);
        rows[n] = to;
      });
    }
    weight_gradient<T>(d_.gemm<T>(), grad_gates_[l], rows, g_.weight_ih[l - 1]);
  }

  // weight_ih of the first layer, whose input is [embedding; last output].
  void differentiate_first_input() {
    const Tensor grad = grad_gates_[0];
    const T* x = d_.input.const_data_ptr<T>();
    const auto inputs = packed_rows<const T>(ragged_, [&](int64_t i, int64_t t) {
      return x + i * d_.input.stride(0) + t * d_.input.stride(1);
    });
    weight_gradient<T>(d_.gemm<T>(), grad, inputs, g_.weight_ih_0.narrow(1, 0, d_.embedding));
    const Tensor fed = masked_vectors();
    const auto outputs = previous_rows(d_.vector_0.const_data_ptr<T>(), [&](int64_t i, int64_t t) {
      return fed.defined() ? fed.const_data_ptr<T>() + (i * d_.steps + t) * hidden_
                           : saved_row(i, t) + d_.row().vector;
    });
    weight_gradient<T>(d_.gemm<T>(), grad, outputs,
                       g_.weight_ih_0.narrow(1, d_.embedding, hidden_));
    T* const to = g_.input.template data_ptr<T>();
    const auto grads = packed_rows<T>(
        ragged_, [&](int64_t i, int64_t t) { return to + (i * d_.steps + t) * d_.embedding; });
    input_gradient<T>(d_.gemm<T>(), grad, d_.weight_ih(0).narrow(1, 0, d_.embedding), grads, false);
  }

  // The outputs again, [B, T, H], where a mask made them differ from the saved vectors.
  Tensor masked_vectors() const {
    if (!d_.vector_mask.defined()) return {};
    const Tensor fed = d_.empty({d_.batch, d_.steps, hidden_});
    const T* mask = d_.vector_mask.const_data_ptr<T>();
    parallel(d_.batch * d_.steps, 64, [&](int64_t n) {
      kernels<T>().attentional_decoder.apply_mask(hidden_, saved_row(0, n) + d_.row().vector,
                                                  mask + n * hidden_,
                                                  fed.data_ptr<T>() + n * hidden_);
    });
    return fed;
  }

  void differentiate_combine() {
    const int64_t memory = d_.sizes.memory;
    const int64_t top = (d_.sizes.layers - 1) * d_.row().layer + d_.row().state;
    g_.combine_weight = d_.empty({hidden_, memory + hidden_});
    if (d_.attends())
      weight_gradient<T>(d_.gemm<T>(), grad_vector_, saved_rows(d_.row().context),
                         g_.combine_weight.narrow(1, 0, memory));
    weight_gradient<T>(d_.gemm<T>(), grad_vector_, saved_rows(top),
                       g_.combine_weight.narrow(1, memory, hidden_));
    g_.query_weight = d_.empty({d_.is_additive() ? d_.sizes.attention : 0, hidden_});
    if (d_.is_additive())
      weight_gradient<T>(d_.gemm<T>(), grad_query_, saved_rows(top), g_.query_weight);
  }

  // Keys, memory and v: all queries of a sentence at once.
  void differentiate_attention() {
    const DecoderSizes& s = d_.sizes;
    const AttentionKernels<T>& k = kernels<T>().attention;
    const ScoreKernels<T>& scores = d_.is_additive() ? k.additive : k.dot;
    const std::vector<DecoderLayer<T>> none;
    const DecoderInputs<T> in = d_.inputs<T>(none);
    const int64_t query =
        d_.is_additive() ? d_.row().query : (s.layers - 1) * d_.row().layer + d_.row().state;
    g_.keys = d_.empty(d_.keys.sizes());
    g_.memory = d_.empty(d_.memory.sizes());
    const Tensor v_parts = d_.empty({d_.is_additive() ? d_.batch : 0, s.attention});
    const AttentionSizes longest{s.steps, s.source, s.source, s.attention, s.memory};
    parallel(d_.batch, 1, [&](int64_t b) {
      const int64_t i = ragged_.rows[b];
      const int64_t length = in.memory_lengths ? in.memory_lengths[i] : s.source;
      std::vector<T> workspace(scores.backward_workspace(longest));
      std::vector<T> grad_query(s.steps * s.attention);
      AttentionBackward<T> g{};
      g.in = {{ragged_.lengths[b], length, s.source, s.attention, s.memory},
              {saved_row(i, 0) + query, d_.row().size},
              {in.keys.data + i * in.keys_batch, in.keys.stride},
              in.v,
              {in.memory.data + i * in.memory_batch, in.memory.stride},
              in.scale};
      g.weights = weights_.const_data_ptr<T>() + i * s.steps * s.source;
      g.grad_context = {grad_context_.template data_ptr<T>() + i * s.steps * s.memory, s.memory};
      g.grad_scores = grad_scores_.template data_ptr<T>() + i * s.steps * s.source;
      g.grad_query = grad_query.data();
      g.grad_keys = g_.keys.template data_ptr<T>() + i * s.source * s.attention;
      g.grad_v = d_.is_additive() ? v_parts.data_ptr<T>() + i * s.attention : nullptr;
      g.grad_memory = g_.memory.template data_ptr<T>() + i * s.source * s.memory;
      g.workspace = workspace.data();
      k.grad_memory(g, 0, s.memory);
      scores.grad_inputs(g, 0, s.attention);
    });
    g_.v = d_.is_additive() ? v_parts.sum(0) : d_.empty({0});
  }

  const DecoderBatch& d_;
  const Tensor &weights_, &saved_;
  const RaggedBatch ragged_;
  const int64_t hidden_, merged_, gate_rows_, total_;
  std::vector<Tensor> kept_;  // packed weights
  Tensor grad_gates_, grad_split_, grad_vector_, grad_query_, grad_context_, grad_scores_;
  DecoderGradients g_;
};

}  // namespace

DecoderGradients decoder_backward(const DecoderBatch& d, const Tensor& grad_output,
                                  const std::optional<Tensor>& grad_weights, const Tensor& weights,
                                  const Tensor& saved) {
  d.check_given(grad_output, grad_weights, weights, saved);
  const auto run = [&]<typename T>(T) {
    const Tensor of_weights = grad_weights ? grad_weights->contiguous() : Tensor();
    const Tensor kept = saved.contiguous(), alignment = weights.contiguous();
    return Backward<T>(d, alignment, kept)
        .run(grad_output.contiguous(),
             of_weights.defined() ? of_weights.const_data_ptr<T>() : nullptr);
  };
  DecoderGradients g = d.input.scalar_type() == at::kFloat ? run(float{}) : run(double{});
  if (!d.attends()) {
    g.memory = d.empty({0}), g.keys = d.empty({0}), g.v = d.empty({0});
  }
  return g;
}

}  // namespace seq2seq_ext
