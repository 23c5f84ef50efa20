#include "attentional_decoder.h"

namespace seq2seq_ext::cuda {

namespace {

using at::Tensor;

DecoderCellShape cell_shape(CellKind kind) {
  const CellTraits traits = cell_traits(kind);
  return {traits.gates, traits.gates - traits.split_gates, traits.saved, traits.has_cell};
}

}  // namespace

DecoderBatch::DecoderBatch(const DecoderArguments& args, std::optional<at::ScalarType> dtype)
    : DecoderTensors(args, cell_shape,
                     [&](const char* op, const char* name, const Tensor& lengths, int64_t batch,
                         int64_t limit) {
                       return device_lengths(op, name, lengths, batch, limit, args.input.device());
                     }),
      products(product_dtype(op, input, dtype)),
      stream(current_stream(input)) {
  const auto options = input.options().dtype(at::kLong);
  order_ = at::empty({2 * batch + 2 * steps + 1}, options);
  int64_t* const rows = data<int64_t>(order_);
  order_rows({batch, steps, data<const int64_t>(lengths), rows, rows + batch, rows + 2 * batch,
              rows + 2 * batch + steps, 0, 0, nullptr},
             stream);
  const Tensor time = at::arange(steps, options);
  step_lengths_ = memory_lengths.defined() ? memory_lengths.clamp(0, sizes.source)
                                           : at::full({batch}, sizes.source, options);
  step_lengths_ = step_lengths_.unsqueeze(0).expand({steps, batch}).contiguous();
  if (!lengths.defined()) return;
  past_ = time.unsqueeze(0).ge(lengths.unsqueeze(1));
  step_lengths_.masked_fill_(past_.t(), 0);
}

Tensor DecoderBatch::gate_parts(const Tensor& of_x, const Tensor& of_h, bool is_sum) const {
  const int64_t whole = merged * sizes.hidden, apart = (gates - merged) * sizes.hidden;
  const auto join = [&](const Tensor& x, const Tensor& h) {
    return is_sum ? x + h : at::cat({x, h}, 1);
  };
  const Tensor x = of_x.narrow(0, whole, apart), h = of_h.narrow(0, whole, apart);
  return at::cat({join(of_x.narrow(0, 0, whole), of_h.narrow(0, 0, whole)),
                  join(x, at::zeros_like(h)), join(at::zeros_like(x), h)});
}

Tensor DecoderBatch::layer_weight(int64_t l) const {
  const Tensor& of_x = weight_ih(l);
  return gate_parts(l == 0 ? of_x.narrow(1, embedding, sizes.hidden) : of_x, weight_hh(l), false);
}

Tensor DecoderBatch::embedding_weight() const {
  const Tensor of_x = weight_ih(0).narrow(1, 0, embedding);
  return gate_parts(of_x, of_x.narrow(1, 0, 0).new_empty({of_x.size(0), 0}), false);
}

Tensor DecoderBatch::layer_bias(int64_t l) const {
  return gate_parts(bias_ih(l), bias_hh(l), true);
}

}  // namespace seq2seq_ext::cuda
