#include "attentional_decoder.h"

#include "decoder_steps.h"

namespace seq2seq_ext {

namespace {

template <typename T>
class ForwardPass : DecoderSteps<T> {
 public:
  ForwardPass(const AttentionalDecoderForward<T>& args, const Team& team)
      : DecoderSteps<T>(args.in, args.workspace, team), a_(args) {}

  void run() {
    const int64_t layers = sizes_.layers, hidden = sizes_.hidden;
    this->each_row(in_.ragged.batch, [&](int64_t b) {
      for (int64_t l = 0; l < layers; ++l)
        this->publish(state_of(l), b, this->initial(in_.layers[l].h_0, b), hidden);
      this->publish(input_of(0), b, this->initial(in_.vector_0, b), hidden);
    });
    team_.sync();
    for (int64_t s = 0; s < in_.ragged.steps; ++s) {
      for (int64_t l = 0; l < layers; ++l) advance(l, s);
      if (this->attends()) attend(s);
      combine(s);
      if (team_.sync_or_stop()) return;
    }
  }

 private:
  using DecoderSteps<T>::in_, DecoderSteps<T>::sizes_, DecoderSteps<T>::team_,
      DecoderSteps<T>::cell_, DecoderSteps<T>::row_, DecoderSteps<T>::rows_,
      DecoderSteps<T>::scores_;

  // Stations of published rows.
  int64_t state_of(int64_t layer) const { return layer; }
  int64_t input_of(int64_t layer) const { return sizes_.layers + layer; }
  int64_t context() const { return 2 * sizes_.layers; }

  T* saved(int64_t b, int64_t s) const { return a_.saved + this->at(b, s) * row_.size; }
  T* saved(int64_t b, int64_t s, int64_t layer) const { return saved(b, s) + layer * row_.layer; }

  void advance(int64_t l, int64_t s) {
    const DecoderLayer<T>& layer = in_.layers[l];
    const int64_t n = in_.ragged.active[s], hidden = sizes_.hidden;
    const auto gates = [&](int64_t b) { return saved(b, s, l); };
    this->multiply(layer.input, input_of(l), n, l == 0, gates);
    this->multiply(layer.split, state_of(l), n, false,
                   [&](int64_t b) { return gates(b) + cell_.gates * hidden; });
    if (layer.merged.columns != layer.input.columns) team_.sync();
    this->multiply(layer.merged, state_of(l), n, true, gates);
    team_.sync();
    this->each_row(n, [&](int64_t b) {
      T* const kept = saved(b, s, l);
      T* const h = kept + row_.state;
      const T* const before = s > 0 ? saved(b, s - 1, l) : nullptr;
      const T* const h_prev = before ? before + row_.state : this->initial(layer.h_0, b);
      const T* c_prev = nullptr;
      if (cell_.has_cell)
        c_prev = before ? before + row_.state - hidden : this->initial(layer.c_0, b);
      cell_.forward(hidden, kept, h_prev, c_prev, h);
      this->publish(state_of(l), b, h, hidden);
      if (l + 1 < sizes_.layers) this->publish(input_of(l + 1), b, masked(l, b, s, h), hidden);
    });
    team_.sync();
  }

  const T* masked(int64_t l, int64_t b, int64_t s, const T* h) const {
    const T* const mask = this->mask_row(in_.layers[l].mask, b, s);
    if (!mask) return h;
    T* const to = this->passing(l, b);
    rows_.apply_mask(sizes_.hidden, h, mask, to);
    return to;
  }

  void attend(int64_t s) {
    const int64_t n = in_.ragged.active[s], top = sizes_.layers - 1;
    if (in_.v) {
      this->multiply(a_.query, state_of(top), n, false,
                     [&](int64_t b) { return saved(b, s) + row_.query; });
      team_.sync();
    }
    this->each_row(n, [&](int64_t b) {
      const T* const query = saved(b, s) + (in_.v ? row_.query : top * row_.layer + row_.state);
      T* const mixed = saved(b, s) + row_.context;
      T* const weights = a_.weights + this->at(b, s) * sizes_.source;
      scores_.forward({this->attention_inputs(b, query),
                       {mixed, sizes_.memory},
                       weights,
                       this->attention_workspace()});
      this->publish(context(), b, mixed, sizes_.memory);
    });
    team_.sync();
  }

  void combine(int64_t s) {
    const int64_t n = in_.ragged.active[s], hidden = sizes_.hidden;
    const auto vector = [&](int64_t b) { return saved(b, s) + row_.vector; };
    this->multiply(a_.context, context(), n, false, vector);
    this->multiply(a_.state, state_of(sizes_.layers - 1), n, this->attends(), vector);
    team_.sync();
    this->each_row(n, [&](int64_t b) {
      T* const output = a_.output + this->at(b, s) * hidden;
      rows_.finish_vector(hidden, vector(b), this->mask_row(in_.vector_mask, b, s), output);
      this->publish(input_of(0), b, output, hidden);
    });
  }

  const AttentionalDecoderForward<T>& a_;
};

}  // namespace

template <typename T>
int64_t decoder_workspace(const DecoderInputs<T>& in, int team_size) {
  return PassWorkspace<T>(in, team_size).size;
}

template <typename T>
void attentional_decoder_forward(const AttentionalDecoderForward<T>& args, const Team& team) {
  ForwardPass<T>(args, team).run();
}

template int64_t decoder_workspace(const DecoderInputs<float>&, int);
template int64_t decoder_workspace(const DecoderInputs<double>&, int);
template void attentional_decoder_forward(const AttentionalDecoderForward<float>&, const Team&);
template void attentional_decoder_forward(const AttentionalDecoderForward<double>&, const Team&);

}  // namespace seq2seq_ext
