// The loop gives the gradients of what enters each product; then a few large products give those
// of the weights, and one pass over each sentence those of keys and memory.
#include "attentional_decoder.h"
#include "kernels/cuda/gemm.h"

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;

template <typename T>
class Backward {
  using A = Acc<T>;

 public:
  Backward(const DecoderBatch& d, const Tensor& grad_output, const Tensor& grad_weights,
           const Tensor& weights, const Tensor& saved)
      : d_(d),
        grad_output_(grad_output),
        grad_weights_(grad_weights),
        saved_(saved),
        weights_(weights),
        step_weights_(weights.transpose(0, 1).contiguous()),
        layers_(d.sizes.layers),
        hidden_(d.sizes.hidden),
        memory_(d.sizes.memory),
        attention_(d.sizes.attention) {
    const auto zeros = [&](at::IntArrayRef shape) { return at::zeros(shape, d.input.options()); };
    const auto narrow = d.input.options().dtype(d.products);
    grad_gates_ = at::zeros({layers_, d.batch, d.steps, d.gate_rows()}, narrow);
    grad_vector_ = at::zeros({d.batch, d.steps, hidden_}, narrow);
    grad_query_ = at::zeros({d.batch, d.steps, d.is_additive() ? attention_ : 0}, narrow);
    grad_context_ = zeros({d.steps, d.batch, memory_});
    grad_scores_ = zeros({d.steps, d.batch, d.sizes.source});
    grad_v_ = zeros({d.steps, d.batch, d.is_additive() ? attention_ : 0});
    query_ = zeros({d.batch, attention_});
    above_ = zeros({d.batch, hidden_});
    grad_fed_ = zeros({d.batch, hidden_});
    grad_h_ = zeros({layers_, d.batch, hidden_});
    grad_c_ = zeros({d.c_0.defined() ? layers_ : 0, d.batch, hidden_});
    for (int64_t l = 0; l < layers_; ++l)
      layer_panels_.push_back(pack_panels<T>(d, d.layer_weight(l), 1, true));
    combine_panels_ = pack_panels<T>(d, d.combine_weight, 1, true);
    if (d.is_additive()) query_panels_ = pack_panels<T>(d, d.query_weight, 1, true);
  }

  DecoderGradients run() {
    for (int64_t s = d_.steps - 1; s >= 0; --s) {
      separate(s);
      if (d_.attends()) attend(s);
      for (int64_t l = layers_ - 1; l >= 0; --l) retreat(l, s);
    }
    return collect();
  }

 private:
  template <typename U>
  static StepRows<U> rows(const Tensor& t, int64_t slab = 0) {
    const int64_t n = t.size(-1);
    return {data<U>(t) + slab * t.size(-2) * n, n};
  }
  StepInput<T> product(const Tensor& grads, int64_t s, const Tensor& panels) const {
    return {d_.at<const T>(grads, s), grads.size(2), data<const T>(panels)};
  }

  // Through tanh and W_c.
  void separate(int64_t s) {
    vector_gradient_step<T>({d_.step(s), hidden_, d_.at<const A>(saved_, s, d_.row().vector),
                             d_.at<const A>(d_.vector_mask, s), d_.at<const A>(grad_output_, s),
                             rows<const A>(grad_fed_), d_.at<T>(grad_vector_, s)},
                            d_.stream);
    product_step<T>(
        {d_.step(s), memory_ + hidden_, memory_, product(grad_vector_, s, combine_panels_),
         rows<A>(grad_context_, s), rows<A>(above_), false, false},
        d_.stream);
  }

  void attend(int64_t s) {
    const int64_t source = d_.sizes.source, place = s * d_.batch;
    AttentionGradients<A> g{};
    g.weights = data<const A>(step_weights_) + place * source;
    g.grad_context = {data<const A>(grad_context_) + place * memory_, memory_, 0};
    if (grad_weights_.defined())
      g.grad_weights = {data<const A>(grad_weights_) + s * grad_weights_.stride(1),
                        grad_weights_.stride(0), 0};
    g.grad_scores = data<A>(grad_scores_) + place * source;
    g.grad_query = data<A>(query_);
    if (d_.is_additive()) g.grad_v = data<A>(grad_v_) + place * attention_;
    attention_query_gradient<A>(d_.attention<A>(saved_, s), g, d_.stream);
    if (!d_.is_additive()) return;
    round_step<T>({d_.step(s), attention_, rows<const A>(query_), d_.at<T>(grad_query_, s)},
                  d_.stream);
    product_step<T>({d_.step(s),
                     hidden_,
                     hidden_,
                     product(grad_query_, s, query_panels_),
                     rows<A>(above_),
                     {},
                     true,
                     false},
                    d_.stream);
  }

  void retreat(int64_t l, int64_t s) {
    const int64_t state = d_.state(l);
    const bool is_query = l + 1 == layers_ && d_.attends() && !d_.is_additive();
    CellGradientStep<T> step{};
    step.at = d_.step(s);
    step.cell = d_.cell;
    step.hidden = hidden_;
    step.saved = d_.at<const A>(saved_, s, l * d_.row().layer);
    step.h_prev = d_.before<A>(saved_, d_.h_0, l, s, state);
    step.c_prev = d_.before<A>(saved_, d_.c_0, l, s, state - hidden_);
    step.above = rows<const A>(above_);
    step.mask = d_.layer_mask<A>(l, s);
    if (is_query) step.beside = rows<const A>(query_);
    step.grad_h = rows<A>(grad_h_, l);
    if (d_.c_0.defined()) step.grad_c = rows<A>(grad_c_, l);
    step.grad_gates = d_.at<T>(grad_gates_[l], s);
    cell_gradient_step<T>(step, d_.stream);
    product_step<T>({d_.step(s), 2 * hidden_, hidden_, product(grad_gates_[l], s, layer_panels_[l]),
                     rows<A>(l == 0 ? grad_fed_ : above_), rows<A>(grad_h_, l), false, true},
                    d_.stream);
  }

  // grads^T rows, both [B, T, ...].
  Tensor weight_gradient(const Tensor& grads, const Tensor& of_rows) const {
    return at::mm(grads.flatten(0, 1).t(), d_.rounded(of_rows).flatten(0, 1));
  }
  // What each step read of the one before.
  Tensor shifted(const Tensor& initial, const Tensor& sequence) const {
    return at::cat({initial.unsqueeze(1), sequence}, 1).narrow(1, 0, d_.steps);
  }
  Tensor states(int64_t l) const { return d_.part(saved_, d_.state(l), hidden_); }
  // A layer's input but for the embedded tokens.
  Tensor layer_input(int64_t l) const {
    const Tensor vectors = d_.part(saved_, d_.row().vector, hidden_);
    if (l > 0)
      return d_.layer_masks.defined() ? d_.living(states(l - 1) * d_.layer_masks[l - 1])
                                      : states(l - 1);
    return shifted(d_.vector_0,
                   d_.vector_mask.defined() ? d_.living(vectors * d_.vector_mask) : vectors);
  }
  // Of the products of x, [B, T, G*H]; of h: the merged gates, then the split ones.
  Tensor of_x(const Tensor& t, int64_t dim) const { return t.narrow(dim, 0, d_.gates * hidden_); }
  Tensor of_h(const Tensor& t, int64_t dim) const {
    const int64_t merged = d_.merged * hidden_, split = d_.gates * hidden_ - merged;
    return at::cat({t.narrow(dim, 0, merged), t.narrow(dim, d_.gates * hidden_, split)}, dim);
  }

  DecoderGradients collect() const {
    const at::ScalarType type = d_.input.scalar_type();
    std::vector<Tensor> weight_ih, weight_hh, bias_ih, bias_hh;
    for (int64_t l = 0; l < layers_; ++l) {
      const Tensor bias = grad_gates_[l].sum(at::IntArrayRef{0, 1}, false, type);
      weight_ih.push_back(of_x(weight_gradient(grad_gates_[l], layer_input(l)), 0).to(type));
      weight_hh.push_back(
          of_h(weight_gradient(grad_gates_[l], shifted(d_.h_0[l], states(l))), 0).to(type));
      bias_ih.push_back(of_x(bias, 0)), bias_hh.push_back(of_h(bias, 0));
    }
    const Tensor tokens = of_x(weight_gradient(grad_gates_[0], d_.living(d_.input)), 0).to(type);
    const Tensor first = at::cat({tokens, weight_ih[0]}, 1);
    weight_ih.erase(weight_ih.begin());
    const Tensor above =
        weight_ih.empty() ? d_.empty({0, d_.gates * hidden_, hidden_}) : at::stack(weight_ih);
    const Tensor top = states(layers_ - 1);
    const Tensor joined =
        d_.attends() ? at::cat({d_.part(saved_, d_.row().context, memory_), top}, 2) : top;
    Tensor query = d_.empty({0, hidden_});
    if (d_.is_additive()) query = weight_gradient(grad_query_, top).to(type);
    const auto [memory, keys, v] = attention_gradients();
    return {input_gradient(),
            grad_fed_,
            grad_h_,
            grad_c_,
            first,
            above,
            at::stack(weight_hh),
            at::stack(bias_ih),
            at::stack(bias_hh),
            weight_gradient(grad_vector_, joined).to(type),
            memory,
            keys,
            query,
            v};
  }

  // By the house's own product: a row's bits must not depend on the batch.
  Tensor input_gradient() const {
    const int64_t depth = d_.gate_rows();
    const Tensor weight = d_.rounded(d_.embedding_weight().t());
    const Tensor grad = d_.empty({d_.batch, d_.steps, d_.embedding});
    gemm<T>({d_.batch * d_.steps, d_.embedding, depth, matrix(data<const T>(grad_gates_), depth),
             data<const T>(weight), depth, nullptr},
            data<A>(grad), true, allows_tf32(), d_.stream);
    return grad;
  }

  std::tuple<Tensor, Tensor, Tensor> attention_gradients() const {
    if (!d_.attends()) return {d_.empty({0}), d_.empty({0}), d_.empty({0})};
    const Tensor keys = d_.empty(d_.keys.sizes()), memory = d_.empty(d_.memory.sizes());
    const Tensor scores = grad_scores_.transpose(0, 1).contiguous();
    AttentionGradients<A> g{};
    g.weights = data<const A>(weights_);
    g.grad_context = {data<const A>(grad_context_), memory_, d_.batch * memory_};
    g.grad_scores = data<A>(scores);
    g.grad_keys = data<A>(keys);
    g.grad_memory = data<A>(memory);
    attention_memory_gradient<A>(d_.all_attention<A>(saved_), g, d_.stream);
    return {memory, keys, d_.is_additive() ? grad_v_.sum(at::IntArrayRef{0, 1}) : d_.empty({0})};
  }

  const DecoderBatch& d_;
  const Tensor grad_output_, grad_weights_;  // of forward's outputs; the second may be undefined
  const Tensor saved_, weights_, step_weights_;
  const int64_t layers_, hidden_, memory_, attention_;
  std::vector<Tensor> layer_panels_;
  Tensor combine_panels_, query_panels_;
  Tensor grad_gates_;                           // [L, B, T, G'*H]
  Tensor grad_vector_, grad_query_;             // [B, T, ...] as products take them
  Tensor grad_context_, grad_scores_, grad_v_;  // [T, B, ...]
  Tensor query_, above_, grad_fed_;             // [B, ...] of the step at hand
  Tensor grad_h_, grad_c_;                      // [L, B, H]
};

}  // namespace

DecoderGradients decoder_backward(const DecoderBatch& d, const Tensor& grad_output,
                                  const std::optional<Tensor>& grad_weights, const Tensor& weights,
                                  const Tensor& saved) {
  d.check_given(grad_output, grad_weights, weights, saved);
  return with_type(d.products, [&]<typename T>() {
    return Backward<T>(d, grad_output.contiguous(),
                       grad_weights ? grad_weights->contiguous() : Tensor(), weights.contiguous(),
                       saved.contiguous())
        .run();
  });
}

}  // namespace seq2seq_ext::cuda
