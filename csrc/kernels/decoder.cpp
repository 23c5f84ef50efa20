#include "decoder.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace seq2seq_ext {

namespace {

template <class Vector>
void at_least(Vector& v, int64_t size) {
  if (static_cast<int64_t>(v.size()) < size) v.resize(size);
}

// A member's part of rows x panels: whole panels where there are enough, else some rows too.
struct Tasks {
  Share rows, panels;

  Tasks(int64_t rows_count, int64_t panel_count, const Team& team) {
    const int columns = static_cast<int>(std::min<int64_t>(panel_count, team.size));
    const int lines = team.size / columns, line = team.index / columns;
    panels = share_of(panel_count, team.index % columns, columns);
    rows = line < lines ? share_of(rows_count, line, lines) : Share{0, 0};
  }
};

}  // namespace

void DecoderWorkspace::reserve(const DecoderModel& m, int64_t rows, int64_t source_length,
                               int64_t k, int team_size) {
  const int64_t context = m.attention == AttentionKind::kNone ? 0 : m.memory;
  int64_t widest = context + m.hidden, recurrent = 0;
  for (const PackedLayer& layer : m.layers) {
    recurrent =
        std::max(recurrent, m.cell_kernels().forward_workspace(layer.sizes, rows, team_size));
    widest = std::max(widest, layer.sizes.input);
  }
  widest = std::max(widest, m.projection.outputs);
  at_least(input_, rows * m.layers[0].sizes.input);
  at_least(hidden_, rows * m.hidden * m.layers.size());
  if (m.has_cell_state()) at_least(cell_, rows * m.hidden * m.layers.size());
  at_least(output_, 2 * rows * m.hidden);
  at_least(combined_, rows * (context + m.hidden));
  at_least(recurrent_, recurrent);
  if (m.attention == AttentionKind::kAdditive) at_least(query_, rows * m.attention_size);
  if (m.projection.panels) at_least(projected_, rows * m.projection.outputs);
  if (m.attention != AttentionKind::kNone) {
    const auto& scores = m.attention == AttentionKind::kAdditive ? m.kernels.attention.additive
                                                                 : m.kernels.attention.dot;
    const AttentionSizes sizes{rows, source_length, source_length, m.attention_size, m.memory};
    attention_per_member_ = scores.forward_workspace(sizes);
    at_least(attention_, attention_per_member_ * team_size);
  }
  if (m.gemm().encodes) at_least(encoded_, rows * m.gemm().row_bytes(widest));
  at_least(a_, rows);
  at_least(c_, rows);
  if (static_cast<int64_t>(ones_.size()) < rows) {
    ones_.assign(rows, 1);
    row_numbers_.resize(rows);
    std::iota(row_numbers_.begin(), row_numbers_.end(), 0);
  }
  if (k == 0) return;
  logits_per_member_ = linear_topk_workspace<float>(rows);
  at_least(logits_, logits_per_member_ * team_size);
  at_least(block_c_, rows * team_size);
  at_least(sums_, rows * topk_blocks(m.vocabulary));
  at_least(tokens_, rows * team_size * k);
  at_least(lists_, rows * team_size);
}

class StepPass {
 public:
  StepPass(const DecoderModel& model, const DecoderStep& step, DecoderWorkspace& workspace,
           const Team& team)
      : m_(model),
        s_(step),
        w_(workspace),
        team_(team),
        layers_(model.layers.size()),
        context_(model.attention == AttentionKind::kNone ? 0 : model.memory) {}

  void run() {
    gather();
    team_.sync();
    const float* top = w_.input_.data();
    for (int64_t layer = 0; layer < layers_; ++layer) top = run_layer(layer, top);
    attend(top);
    team_.sync();
    float* const vectors = m_.input_feeding ? after(m_.state_parts() - 1) : w_.output_.data();
    multiply(m_.combine, w_.combined_.data(), vectors);
    finish_vectors(vectors);
    team_.sync();
    const float* outputs = vectors;
    if (m_.projection.panels) {
      multiply(m_.projection, vectors, w_.projected_.data());
      team_.sync();
      outputs = w_.projected_.data();
    }
    if (s_.logits)
      multiply(m_.output, outputs, s_.logits);
    else
      find_best(outputs);
    team_.sync();
  }

 private:
  float* after(int64_t part) const { return s_.after + part * s_.rows_after * m_.hidden; }
  const float* before(int64_t part) const { return s_.before + part * s_.rows_before * m_.hidden; }
  Share own_rows() const { return share_of(s_.rows, team_.index, team_.size); }
  float* gathered(std::vector<float>& states, int64_t layer) const {
    return states.data() + layer * s_.rows * m_.hidden;
  }

  // The state that each row continues, and the first layer's input.
  void gather() const {
    const int64_t hidden = m_.hidden, embedding = m_.embedding_size;
    const auto copy = [&](float* to, const float* from, int64_t n) {
      std::memcpy(to, from, n * sizeof(float));
    };
    const Share own = own_rows();
    for (int64_t row = own.begin; row < own.end; ++row) {
      const int64_t parent = s_.parents[row];
      for (int64_t layer = 0; layer < layers_; ++layer) {
        copy(gathered(w_.hidden_, layer) + row * hidden, before(layer) + parent * hidden, hidden);
        if (m_.has_cell_state())
          copy(gathered(w_.cell_, layer) + row * hidden, before(layers_ + layer) + parent * hidden,
               hidden);
      }
      float* const x = w_.input_.data() + row * m_.layers[0].sizes.input;
      copy(x, m_.embedding + s_.tokens[row] * embedding, embedding);
      if (m_.input_feeding)
        copy(x + embedding, before(m_.state_parts() - 1) + parent * hidden, hidden);
    }
  }

  const float* run_layer(int64_t layer, const float* input) const {
    const int64_t offsets[] = {0, s_.rows};
    const RecurrentSizes& sizes = m_.layers[layer].sizes;
    float* const output = w_.output_.data() + layer % 2 * s_.rows * m_.hidden;
    const bool has_cell = m_.has_cell_state();
    m_.cell_kernels().forward(
        {{s_.rows, 1, w_.row_numbers_.data(), w_.ones_.data(), &s_.rows, offsets},
         sizes,
         false,
         m_.layers[layer].packed,
         {input, 0, sizes.input},
         {output, 0, m_.hidden},
         gathered(w_.hidden_, layer),
         after(layer),
         has_cell ? gathered(w_.cell_, layer) : nullptr,
         has_cell ? after(layers_ + layer) : nullptr,
         nullptr,
         w_.recurrent_.data()},
        team_);
    return output;
  }

  // combined = [context; top].
  void attend(const float* top) const {
    const float* queries = top;
    if (m_.attention == AttentionKind::kAdditive) {
      multiply(m_.query, top, w_.query_.data());
      queries = w_.query_.data();
      team_.sync();
    }
    const int64_t hidden = m_.hidden, width = context_ + hidden;
    const Share own = own_rows();
    for (int64_t row = own.begin; row < own.end; ++row)
      std::memcpy(w_.combined_.data() + row * width + context_, top + row * hidden,
                  hidden * sizeof(float));
    if (m_.attention == AttentionKind::kNone) return;
    // Sources are dealt out in turn, as their lengths are often sorted; too few for the team are
    // cut.
    const std::vector<SourceRows>& groups = *s_.groups;
    const int count = static_cast<int>(groups.size()), parts = (team_.size + count - 1) / count;
    for (int task = team_.index; task < count * parts; task += team_.size) {
      const SourceRows& group = groups[task / parts];
      const Share share = share_of(group.end - group.begin, task % parts, parts);
      attend_source(group.source, queries, group.begin + share.begin, group.begin + share.end);
    }
  }

  void attend_source(int64_t source, const float* queries, int64_t begin, int64_t end) const {
    if (begin == end) return;
    const DecoderSources& from = *s_.sources;
    const bool additive = m_.attention == AttentionKind::kAdditive;
    const int64_t size = m_.attention_size, first = source * from.length;
    const auto& scores = additive ? m_.kernels.attention.additive : m_.kernels.attention.dot;
    scores.forward({{{end - begin, from.lengths[source], from.length, size, m_.memory},
                     {queries + begin * size, size},
                     {from.keys + first * size, size},
                     m_.v,
                     {from.memory + first * m_.memory, m_.memory},
                     m_.scale},
                    {w_.combined_.data() + begin * (context_ + m_.hidden), context_ + m_.hidden},
                    s_.weights + begin * from.length,
                    w_.attention_.data() + team_.index * w_.attention_per_member_});
  }

  void finish_vectors(float* vectors) const {
    const int64_t width = m_.gemm().panel_width, hidden = m_.hidden;
    const Tasks own(s_.rows, panels_of(m_.combine), team_);
    const int64_t begin = own.panels.begin * width,
                  end = std::min<int64_t>(own.panels.end * width, hidden);
    for (int64_t row = own.rows.begin; row < own.rows.end; ++row)
      m_.kernels.pointwise.tanh(vectors + row * hidden + begin, end - begin);
  }

  int64_t panels_of(const PackedLinear& layer) const {
    const int64_t width = m_.gemm().panel_width;
    return (layer.outputs + width - 1) / width;
  }

  // The rows of x as the product reads them, in the workspace.
  void encode(const float* x, int64_t depth) const {
    const GemmKernels<float>& gemm = m_.gemm();
    const int64_t bytes = gemm.encodes ? gemm.row_bytes(depth) : 0;
    const Share own = own_rows();
    for (int64_t row = own.begin; row < own.end; ++row) {
      w_.a_[row] = x + row * depth;
      if (!gemm.encodes) continue;
      w_.a_[row] = w_.encoded_.data() + row * bytes;
      gemm.encode(x + row * depth, 1, depth, w_.encoded_.data() + row * bytes);
    }
  }

  // y = layer(x); each member has written its Tasks' part.
  void multiply(const PackedLinear& layer, const float* x, float* y) const {
    encode(x, layer.inputs);
    const Share own = own_rows();
    for (int64_t row = own.begin; row < own.end; ++row) w_.c_[row] = y + row * layer.outputs;
    team_.sync();
    const Tasks tasks(s_.rows, panels_of(layer), team_);
    m_.gemm().multiply(
        {layer.inputs, layer.outputs, w_.a_.data(), layer.panels, w_.c_.data(), layer.bias, false},
        tasks.rows.begin, tasks.rows.end, tasks.panels.begin, tasks.panels.end);
  }

  // The output layer, and the best tokens of each row.
  void find_best(const float* outputs) const {
    encode(outputs, m_.output.inputs);
    const int64_t blocks = topk_blocks(m_.vocabulary),
                  readers = std::min<int64_t>(team_.size, blocks);
    const Share own = own_rows();
    for (int64_t i = own.begin * readers; i < own.end * readers; ++i)
      w_.lists_[i] = {w_.tokens_.data() + i * s_.k};
    team_.sync();
    // Readers share the blocks; where there are fewer blocks than members, they share the rows.
    const int64_t lines = team_.size / readers, line = team_.index / readers;
    const Share rows = line < lines ? share_of(s_.rows, line, lines) : Share{0, 0};
    scan_products<float>(
        {m_.gemm(), m_.kernels.topk, m_.output.inputs, m_.vocabulary, w_.a_.data() + rows.begin,
         rows.end - rows.begin, m_.output.panels, m_.output.bias, s_.k,
         w_.sums_.data() + rows.begin * blocks, w_.lists_.data() + rows.begin * readers},
        {team_.index % readers, readers}, w_.logits_.data() + team_.index * w_.logits_per_member_,
        w_.block_c_.data() + team_.index * s_.rows);
    team_.sync();
    for (int64_t row = own.begin; row < own.end; ++row)
      merge<float>(
          {w_.sums_.data() + row * blocks, blocks, w_.lists_.data() + row * readers, readers}, s_.k,
          s_.log_probs + row * s_.k, s_.best + row * s_.k);
  }

  const DecoderModel& m_;
  const DecoderStep& s_;
  DecoderWorkspace& w_;
  const Team& team_;
  const int64_t layers_, context_;
};

void decoder_step(const DecoderModel& model, const DecoderStep& step, DecoderWorkspace& workspace,
                  const Team& team) {
  StepPass(model, step, workspace, team).run();
}

}  // namespace seq2seq_ext
