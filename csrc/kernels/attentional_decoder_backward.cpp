// The way back: gradients of states and of what enters each product, step by step.
#include "decoder_steps.h"

namespace seq2seq_ext {

namespace {

template <typename T>
class BackwardPass : DecoderSteps<T> {
 public:
  BackwardPass(const AttentionalDecoderBackward<T>& args, const Team& team)
      : DecoderSteps<T>(args.in, args.workspace, team), a_(args) {}

  void run() {
    for (int64_t s = in_.ragged.steps - 1; s >= 0; --s) {
      separate(s);
      if (this->attends()) attend(s);
      for (int64_t l = sizes_.layers - 1; l >= 0; --l) {
        retreat(l, s);
        if (team_.sync_or_stop()) return;
      }
    }
  }

 private:
  using DecoderSteps<T>::in_, DecoderSteps<T>::sizes_, DecoderSteps<T>::team_,
      DecoderSteps<T>::cell_, DecoderSteps<T>::row_, DecoderSteps<T>::rows_,
      DecoderSteps<T>::scores_, DecoderSteps<T>::attention_;

  // Stations of published rows.
  int64_t gates_of(int64_t layer) const { return layer; }
  int64_t merged_of(int64_t layer) const { return sizes_.layers + layer; }
  int64_t split_of(int64_t layer) const { return 2 * sizes_.layers + layer; }
  int64_t vector() const { return 3 * sizes_.layers; }
  int64_t query() const { return 3 * sizes_.layers + 1; }

  const T* saved(int64_t b, int64_t s) const { return a_.saved + this->at(b, s) * row_.size; }
  int64_t packed(int64_t b, int64_t s) const { return in_.ragged.offsets[s] + b; }
  // Of the state on its way down to the layer at hand.
  T* above(int64_t b) const { return this->passing(0, b); }
  T* grad_context(int64_t b, int64_t s) const {
    return a_.grad_context + this->at(b, s) * sizes_.memory;
  }

  // Through tanh and W_c.
  void separate(int64_t s) {
    const int64_t n = in_.ragged.active[s], hidden = sizes_.hidden;
    this->each_row(n, [&](int64_t b) {
      T* const grad = a_.grad_vector + packed(b, s) * hidden;
      rows_.apply_mask(hidden, a_.grad_output + this->at(b, s) * hidden, nullptr, grad);
      rows_.add_masked(hidden, this->initial(a_.grad_fed, b), nullptr, grad);
      rows_.vector_gradient(hidden, saved(b, s) + row_.vector,
                            this->mask_row(in_.vector_mask, b, s), grad);
      this->publish(vector(), b, grad, hidden);
    });
    team_.sync();
    this->multiply(a_.context, vector(), n, false, [&](int64_t b) { return grad_context(b, s); });
    this->multiply(a_.state, vector(), n, false, [&](int64_t b) { return above(b); });
    team_.sync();
  }

  void attend(int64_t s) {
    const int64_t n = in_.ragged.active[s], top = sizes_.layers - 1;
    const int64_t width = in_.v ? sizes_.attention : sizes_.hidden;
    this->each_row(n, [&](int64_t b) {
      const int64_t row = this->at(b, s) * sizes_.source;
      T* const grad_query =
          in_.v ? a_.grad_query + packed(b, s) * width : this->attention_workspace();
      AttentionBackward<T> g{};
      g.in = this->attention_inputs(
          b, saved(b, s) + (in_.v ? row_.query : top * row_.layer + row_.state));
      g.weights = a_.weights + row;
      g.grad_context = {grad_context(b, s), sizes_.memory};
      g.grad_weights = {a_.grad_weights ? a_.grad_weights + row : nullptr, 0};
      g.grad_scores = a_.grad_scores + row;
      g.grad_query = grad_query;
      attention_.grad_scores(g);
      scores_.grad_query(g);
      if (in_.v)
        this->publish(query(), b, grad_query, width);
      else
        rows_.add_masked(width, grad_query, nullptr, above(b));
    });
    team_.sync();
    if (!in_.v) return;
    this->multiply(a_.query, query(), n, true, [&](int64_t b) { return above(b); });
    team_.sync();
  }

  void retreat(int64_t l, int64_t s) {
    const DecoderLayer<T>& layer = in_.layers[l];
    const int64_t n = in_.ragged.active[s], hidden = sizes_.hidden;
    const int64_t merged = cell_.merged * hidden, split = cell_.gates * hidden - merged;
    const auto grad_h = [&](int64_t b) { return this->initial(a_.grad_h[l], b); };
    this->each_row(n, [&](int64_t b) {
      rows_.add_masked(hidden, above(b), this->mask_row(layer.mask, b, s), grad_h(b));
      const T* const before = s > 0 ? saved(b, s - 1) + l * row_.layer : nullptr;
      DecoderCellGradient<T> d{};
      d.hidden = hidden;
      d.saved = saved(b, s) + l * row_.layer;
      d.h_prev = before ? before + row_.state : this->initial(layer.h_0, b);
      d.grad_h = grad_h(b);
      if (cell_.has_cell) {
        d.c_prev = before ? before + row_.state - hidden : this->initial(layer.c_0, b);
        d.grad_c = this->initial(a_.grad_c[l], b);
      }
      d.grad_gates = a_.grad_gates[l] + packed(b, s) * cell_.gates * hidden;
      d.grad_split = a_.grad_split[l] + packed(b, s) * split;
      cell_.backward(d);
      this->publish(gates_of(l), b, d.grad_gates, cell_.gates * hidden);
      if (split) {
        this->publish(merged_of(l), b, d.grad_gates, merged);
        this->publish(split_of(l), b, d.grad_split, split);
      }
    });
    team_.sync();
    this->multiply(a_.merged[l], split ? merged_of(l) : gates_of(l), n, true, grad_h);
    this->multiply(a_.split[l], split_of(l), n, true, grad_h);
    this->multiply(a_.input[l], gates_of(l), n, false,
                   [&](int64_t b) { return l == 0 ? this->initial(a_.grad_fed, b) : above(b); });
  }

  const AttentionalDecoderBackward<T>& a_;
};

}  // namespace

template <typename T>
void attentional_decoder_backward(const AttentionalDecoderBackward<T>& args, const Team& team) {
  BackwardPass<T>(args, team).run();
}

template void attentional_decoder_backward(const AttentionalDecoderBackward<float>&, const Team&);
template void attentional_decoder_backward(const AttentionalDecoderBackward<double>&, const Team&);

}  // namespace seq2seq_ext
