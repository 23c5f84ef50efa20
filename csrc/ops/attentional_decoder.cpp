#include "attentional_decoder.h"

#include <ATen/Functions.h>
#include <torch/library.h>

namespace seq2seq_ext {

namespace {

using at::Tensor;

// Weights as forward's products take them, and the tensors they live in.
template <typename T>
class ForwardProducts {
 public:
  explicit ForwardProducts(const DecoderBatch& d)
      : d_(d), layers(d.layers<T>()), hidden_(d.sizes.hidden) {
    const int64_t gate_rows = d.gates * hidden_, merged = d.merged * hidden_;
    for (int64_t l = 0; l < d.sizes.layers; ++l) {
      Tensor bias = d.bias_ih(l).clone();
      bias.slice(0, 0, merged).add_(d.bias_hh(l).slice(0, 0, merged));
      const Tensor& w = d.weight_ih(l);
      if (l == 0) {
        embedded = product(w.narrow(1, 0, d.embedding), bias);
        layers[l].input = product(w.narrow(1, d.embedding, hidden_), {});
      } else {
        layers[l].input = product(w, bias);
      }
      layers[l].merged = product(d.weight_hh(l).narrow(0, 0, merged), {});
      if (merged < gate_rows)
        layers[l].split = product(d.weight_hh(l).narrow(0, merged, gate_rows - merged),
                                  d.bias_hh(l).narrow(0, merged, gate_rows - merged));
    }
    const int64_t memory = d.sizes.memory;
    if (d.attends()) context = product(d.combine_weight.narrow(1, 0, memory), {});
    state = product(d.combine_weight.narrow(1, memory, hidden_), {});
    if (d.is_additive()) query = product(d.query_weight, {});
  }

 private:
  // x weight^T + bias.
  DecoderProduct<T> product(const Tensor& weight, const Tensor& bias) {
    const int64_t columns = weight.size(0), depth = weight.size(1);
    kept_.push_back(pack_panels<T>(d_.gemm<T>(), {weight.const_data_ptr<T>(), 1, weight.stride(0)},
                                   depth, columns));
    const void* const panels = kept_.back().const_data_ptr();
    if (bias.defined()) kept_.push_back(bias);
    return {depth, columns, panels, bias.defined() ? bias.const_data_ptr<T>() : nullptr};
  }

  const DecoderBatch& d_;
  std::vector<Tensor> kept_;

 public:
  std::vector<DecoderLayer<T>> layers;
  DecoderProduct<T> embedded;  // of the inputs, by layer 0's gates
  DecoderProduct<T> query, context, state;

 private:
  const int64_t hidden_;
};

// Zero in every row past a length, [B, T, n].
void zero_past_end(const DecoderBatch& d, const Tensor& t) {
  const RaggedBatch r = d.ragged->view();
  for (int64_t b = 0; b < r.batch; ++b)
    if (r.lengths[b] < d.steps) t[r.rows[b]].slice(0, r.lengths[b]).zero_();
}

template <typename T>
void project_inputs(const DecoderBatch& d, const DecoderProduct<T>& embedded, T* saved) {
  const RaggedBatch r = d.ragged->view();
  const T* x = d.input.const_data_ptr<T>();
  const auto from = packed_rows<const T>(
      r, [&](int64_t i, int64_t t) { return x + i * d.input.stride(0) + t * d.input.stride(1); });
  const auto to = packed_rows<T>(
      r, [&](int64_t i, int64_t t) { return saved + (i * d.steps + t) * d.row().size; });
  const std::vector<const void*> a(from.begin(), from.end());
  parallel_multiply<T>(d.gemm<T>(),
                       {embedded.depth, embedded.columns, a.data(), embedded.panels, to.data(),
                        embedded.bias, false},
                       to.size());
}

template <typename T>
DecoderOutputs decoder_forward(const DecoderBatch& d, bool save) {
  const ForwardProducts<T> products(d);
  DecoderOutputs out{d.empty({d.batch, d.steps, d.sizes.hidden}),
                     d.empty({d.batch, d.steps, d.sizes.source}),
                     d.empty({d.batch, d.steps, d.row().size})};
  project_inputs<T>(d, products.embedded, out.saved.data_ptr<T>());
  AttentionalDecoderForward<T> args{d.inputs<T>(products.layers),
                                    products.query,
                                    products.context,
                                    products.state,
                                    out.saved.data_ptr<T>(),
                                    out.output.data_ptr<T>(),
                                    out.weights.data_ptr<T>(),
                                    nullptr};
  run_decoder<T>(d, args, attentional_decoder_forward<T>);
  zero_past_end(d, out.output);
  zero_past_end(d, out.weights);
  if (save)
    zero_past_end(d, out.saved);
  else
    out.saved = d.empty({0, d.steps, d.row().size});
  return out;
}

std::tuple<Tensor, Tensor, Tensor> attentional_decoder(
    const Tensor& input, const std::optional<Tensor>& lengths, const Tensor& vector_0,
    at::TensorList states, at::TensorList weights, c10::string_view cell,
    const Tensor& combine_weight, const std::optional<Tensor>& memory,
    const std::optional<Tensor>& keys, const std::optional<Tensor>& memory_lengths,
    const std::optional<Tensor>& query_weight, const std::optional<Tensor>& v, double scale,
    const std::optional<Tensor>& layer_masks, const std::optional<Tensor>& vector_mask,
    std::optional<at::ScalarType> dtype, bool save) {
  const DecoderBatch batch({"attentional_decoder", input, lengths, vector_0, states, weights,
                            std::string(cell), combine_weight, memory, keys, memory_lengths,
                            query_weight, v, scale, layer_masks, vector_mask},
                           dtype);
  const DecoderOutputs out = input.scalar_type() == at::kFloat
                                 ? decoder_forward<float>(batch, save)
                                 : decoder_forward<double>(batch, save);
  return {out.output, out.weights, out.saved};
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                             Tensor, Tensor, Tensor, Tensor, Tensor>;

Gradients backward(const Tensor& grad_output, const std::optional<Tensor>& grad_weights,
                   const Tensor& input, const std::optional<Tensor>& lengths,
                   const Tensor& vector_0, at::TensorList states, at::TensorList weights,
                   c10::string_view cell, const Tensor& combine_weight,
                   const std::optional<Tensor>& memory, const std::optional<Tensor>& keys,
                   const std::optional<Tensor>& memory_lengths,
                   const std::optional<Tensor>& query_weight, const std::optional<Tensor>& v,
                   double scale, const std::optional<Tensor>& layer_masks,
                   const std::optional<Tensor>& vector_mask, std::optional<at::ScalarType> dtype,
                   const Tensor& alignment, const Tensor& saved) {
  const DecoderBatch batch({"attentional_decoder_backward", input, lengths, vector_0, states,
                            weights, std::string(cell), combine_weight, memory, keys,
                            memory_lengths, query_weight, v, scale, layer_masks, vector_mask},
                           dtype);
  const DecoderGradients g = decoder_backward(batch, grad_output, grad_weights, alignment, saved);
  return {g.input,     g.vector_0,  g.h_0,          g.c_0,     g.weight_ih_0,
          g.weight_ih, g.weight_hh, g.bias_ih,      g.bias_hh, g.combine_weight,
          g.memory,    g.keys,      g.query_weight, g.v};
}

}  // namespace

TORCH_LIBRARY_IMPL(seq2seq_ext, CPU, m) {
  m.impl("attentional_decoder", &attentional_decoder);
  m.impl("attentional_decoder_backward", &backward);
}

}  // namespace seq2seq_ext
