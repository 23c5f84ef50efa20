// What both passes of the attentional decoder share: one member's part of a step. Rows that
// enter a product are published, by whoever made them, as the weight type wants them.
#pragma once

#include <algorithm>
#include <vector>

#include "attentional_decoder.h"
#include "isa.h"

namespace seq2seq_ext {

template <typename T>
const DecoderCell<T>& decoder_cell(CellKind cell) {
  const AttentionalDecoderKernels<T>& k = kernels<T>().attentional_decoder;
  switch (cell) {
    case CellKind::kLstm:
      return k.lstm;
    case CellKind::kGru:
      return k.gru;
    case CellKind::kRnnTanh:
      return k.rnn_tanh;
    default:
      return k.rnn_relu;
  }
}

// Bytes from the workspace's begin, all multiples of a cache line.
template <typename T>
struct PassWorkspace {
  int64_t stations, row_bytes;  // rows that enter products, [stations, B]
  int64_t encoded, rows, attention, attention_bytes, size;

  PassWorkspace(const DecoderInputs<T>& in, int team_size) {
    const DecoderSizes& s = in.sizes;
    const GemmKernels<T>& gemm = kernels<T>().gemm[in.weight_type];
    const DecoderCell<T>& cell = decoder_cell<T>(in.cell);
    const int64_t batch = in.ragged.batch,
                  deepest = std::max({cell.gates * s.hidden, s.memory, s.attention});
    stations = 3 * s.layers + 2;
    row_bytes = gemm.encodes ? lines(gemm.row_bytes(deepest)) : 0;
    encoded = lines(stations * batch * sizeof(const void*));
    rows = encoded + stations * batch * row_bytes;
    attention = rows + lines(s.layers * batch * s.hidden * sizeof(T));
    const AttentionSizes one{1, s.source, s.source, s.attention, s.memory};
    attention_bytes = lines(kernels<T>().attention.additive.forward_workspace(one) * sizeof(T));
    size = attention + team_size * attention_bytes;
  }

  static int64_t lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }
};

template <typename T>
class DecoderSteps {
 protected:
  DecoderSteps(const DecoderInputs<T>& in, void* workspace, const Team& team)
      : in_(in),
        sizes_(in.sizes),
        team_(team),
        cell_(decoder_cell<T>(in.cell)),
        row_(in.sizes, cell_.saved),
        gemm_(kernels<T>().gemm[in.weight_type]),
        attention_(kernels<T>().attention),
        scores_(in.v ? attention_.additive : attention_.dot),
        rows_(kernels<T>().attentional_decoder),
        space_(in, team.size),
        workspace_(static_cast<char*>(workspace)),
        published_(reinterpret_cast<const void**>(workspace_)),
        c_(in.ragged.batch) {}

  bool attends() const { return sizes_.memory > 0; }

  // Row b of a batch [B, T] at step s.
  int64_t at(int64_t b, int64_t s) const { return in_.ragged.rows[b] * sizes_.steps + s; }
  const T* mask_row(const T* mask, int64_t b, int64_t s) const {
    return mask ? mask + at(b, s) * sizes_.hidden : nullptr;
  }
  // Row b of a batch [B].
  template <typename U>
  U* initial(U* data, int64_t b) const {
    return data + in_.ragged.rows[b] * sizes_.hidden;
  }
  // Row b of the rows that nobody outlives: [L, B, H].
  T* passing(int64_t layer, int64_t b) const {
    return reinterpret_cast<T*>(workspace_ + space_.rows) +
           (layer * in_.ragged.batch + b) * sizes_.hidden;
  }
  T* attention_workspace() const {
    return reinterpret_cast<T*>(workspace_ + space_.attention +
                                team_.index * space_.attention_bytes);
  }

  // This member's rows of n.
  template <class Body>
  void each_row(int64_t n, const Body& body) const {
    for (int64_t b = team_.index; b < n; b += team_.size) body(b);
  }

  void publish(int64_t station, int64_t b, const T* row, int64_t depth) const {
    const int64_t place = station * in_.ragged.batch + b;
    published_[place] = row;
    if (!gemm_.encodes) return;
    char* const encoded = workspace_ + space_.encoded + place * space_.row_bytes;
    gemm_.encode(row, 1, depth, encoded);
    published_[place] = encoded;
  }

  // c(b) (+)= published rows times this member's columns of the product. Products of one width
  // are cut alike, so those that add up need not wait for each other.
  template <class Row>
  void multiply(const DecoderProduct<T>& product, int64_t station, int64_t n, bool accumulate,
                const Row& c) {
    if (product.columns == 0) return;
    for (int64_t b = 0; b < n; ++b) c_[b] = c(b);
    const int64_t panels = (product.columns + gemm_.panel_width - 1) / gemm_.panel_width;
    const Share share = share_of(panels, team_.index, team_.size);
    gemm_.multiply({product.depth, product.columns, published_ + station * in_.ragged.batch,
                    product.panels, c_.data(), product.bias, accumulate},
                   0, n, share.begin, share.end);
  }

  // The one query of row b at a step.
  AttentionInputs<T> attention_inputs(int64_t b, const T* query) const {
    const int64_t i = in_.ragged.rows[b];
    const int64_t length = in_.memory_lengths ? in_.memory_lengths[i] : sizes_.source;
    return {{1, length, sizes_.source, sizes_.attention, sizes_.memory}, {query, sizes_.attention},
            {in_.keys.data + i * in_.keys_batch, in_.keys.stride},       in_.v,
            {in_.memory.data + i * in_.memory_batch, in_.memory.stride}, in_.scale};
  }

  const DecoderInputs<T>& in_;
  const DecoderSizes& sizes_;
  const Team& team_;
  const DecoderCell<T>& cell_;
  const DecoderRow row_;
  const GemmKernels<T>& gemm_;
  const AttentionKernels<T>& attention_;
  const ScoreKernels<T>& scores_;
  const AttentionalDecoderKernels<T>& rows_;
  const PassWorkspace<T> space_;
  char* const workspace_;

 private:
  const void** const published_;
  std::vector<T*> c_;
};

}  // namespace seq2seq_ext
