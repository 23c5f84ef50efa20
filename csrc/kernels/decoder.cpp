#include "decoder.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace seq2seq_ext {

namespace {

// A step of many rows is cut by rows: a member takes its share of them from the embedding to the
// best tokens, and meets the others at the end. Of fewer rows than this each, reading all weights
// would take a member longer than its products, so those are cut by columns: a tile of rows where
// the weights are few enough to stay in a cache, else more.
int64_t rows_alone(const DecoderModel& m) {
  constexpr int64_t kFewWeights = 1 << 20;
  return m.weights() <= kFewWeights ? 12 : 24;
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
  const bool attends = m.attention != AttentionKind::kNone;
  const int64_t context = attends ? m.memory : 0;
  const auto& scores = m.attention == AttentionKind::kAdditive ? m.kernels.attention.additive
                                                               : m.kernels.attention.dot;
  const AttentionSizes attention{rows, source_length, source_length, m.attention_size, m.memory};
  const int64_t widest = std::max(context + m.hidden, m.projection.outputs);
  if (static_cast<int>(members_.size()) < team_size) members_.resize(team_size);
  for (Member& member : members_) {
    member.input.reserve(rows * m.layers[0].sizes.input);
    if (attends) member.attention.reserve(scores.forward_workspace(attention));
    if (k > 0) member.logits.reserve(linear_topk_workspace<float>(rows));
    for (const PackedLayer& layer : m.layers)
      member.recurrent.reserve(m.cell_kernels().forward_workspace(layer.sizes, rows, 1));
    if (m.gemm().encodes) member.encoded.reserve(rows * m.gemm().row_bytes(widest));
    member.a.reserve(rows);
    member.c.reserve(rows);
  }
  for (const PackedLayer& layer : m.layers)
    recurrent_.reserve(m.cell_kernels().forward_workspace(layer.sizes, rows, team_size));
  query_.reserve(rows * m.query.outputs);
  combined_.reserve(rows * (context + m.hidden));
  vectors_.reserve(rows * m.hidden);
  projected_.reserve(rows * m.projection.outputs);
  if (static_cast<int64_t>(ones_.size()) < rows) {
    ones_.assign(rows, 1);
    row_numbers_.resize(rows);
    std::iota(row_numbers_.begin(), row_numbers_.end(), 0);
  }
  if (k == 0) return;
  sums_.reserve(rows * topk_blocks(m.vocabulary));
  tokens_.reserve(rows * team_size * k);
  lists_.reserve(rows * team_size);
}

// Some rows of a step, by a team; it may be a member alone.
class StepPass {
 public:
  StepPass(const DecoderModel& model, const DecoderStep& step, DecoderWorkspace& workspace,
           int member, const Share& rows, const Team& team)
      : m_(model),
        s_(step),
        w_(workspace),
        own_(workspace.members_[member]),
        begin_(rows.begin),
        count_(rows.end - rows.begin),
        team_(team),
        layers_(model.layers.size()),
        context_(model.attention == AttentionKind::kNone ? 0 : model.memory) {}

  void run() {
    const float* input = gather_inputs();
    for (int64_t layer = 0; layer < layers_; ++layer) input = run_layer(layer, input);
    attend(after(layers_ - 1));
    team_.sync();
    float* const vectors = m_.input_feeding ? after(m_.state_parts() - 1) : w_.vectors_.data();
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
  }

 private:
  float* after(int64_t part) const { return s_.after + part * s_.rows_after * m_.hidden; }
  const float* before(int64_t part) const { return s_.before + part * s_.rows_before * m_.hidden; }

  // This member's rows where products are not what is cut.
  Share own_rows() const {
    const Share share = share_of(count_, team_.index, team_.size);
    return {begin_ + share.begin, begin_ + share.end};
  }

  // The first layer's input of all rows of the pass: each member reads its own.
  const float* gather_inputs() const {
    const int64_t hidden = m_.hidden, embedding = m_.embedding_size;
    float* x = own_.input.data();
    for (int64_t row = begin_; row < begin_ + count_; ++row) {
      std::memcpy(x, m_.embedding + s_.tokens[row] * embedding, embedding * sizeof(float));
      x += embedding;
      if (!m_.input_feeding) continue;
      std::memcpy(x, before(m_.state_parts() - 1) + s_.parents[row] * hidden,
                  hidden * sizeof(float));
      x += hidden;
    }
    return own_.input.data();
  }

  // input: of the pass's first row. Returns the state that the layer's rows come to.
  const float* run_layer(int64_t layer, const float* input) const {
    const int64_t offsets[] = {0, count_};
    const RecurrentSizes& sizes = m_.layers[layer].sizes;
    const int64_t first = begin_ * m_.hidden;
    float* const output = after(layer) + first;
    const bool has_cell = m_.has_cell_state();
    char* const workspace = team_.size == 1 ? own_.recurrent.data() : w_.recurrent_.data();
    m_.cell_kernels().forward(
        {{count_, 1, w_.row_numbers_.data(), w_.ones_.data(), &count_, offsets},
         sizes,
         false,
         m_.layers[layer].packed,
         {input, 0, sizes.input},
         {output, 0, m_.hidden},
         before(layer),
         output,
         has_cell ? before(layers_ + layer) : nullptr,
         has_cell ? after(layers_ + layer) + first : nullptr,
         nullptr,
         workspace,
         s_.parents + begin_},
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
    const int sources = static_cast<int>(s_.groups->size());
    const int parts = (team_.size + sources - 1) / sources;
    int task = 0;
    for (const SourceRows& group : *s_.groups) {
      const int64_t begin = std::max(group.begin, begin_),
                    end = std::min(group.end, begin_ + count_);
      if (begin >= end) continue;
      for (int part = 0; part < parts; ++part, ++task) {
        if (task % team_.size != team_.index) continue;
        const Share share = share_of(end - begin, part, parts);
        attend_source(group.source, queries, begin + share.begin, begin + share.end);
      }
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
                    own_.attention.data()});
  }

  void finish_vectors(float* vectors) const {
    const int64_t width = m_.gemm().panel_width, hidden = m_.hidden;
    const Tasks own(count_, panels_of(m_.combine), team_);
    const int64_t begin = own.panels.begin * width,
                  end = std::min<int64_t>(own.panels.end * width, hidden);
    for (int64_t row = begin_ + own.rows.begin; row < begin_ + own.rows.end; ++row)
      m_.kernels.pointwise.tanh(vectors + row * hidden + begin, end - begin);
  }

  int64_t panels_of(const PackedLinear& layer) const {
    const int64_t width = m_.gemm().panel_width;
    return (layer.outputs + width - 1) / width;
  }

  // Those rows of x as the product reads them, at their places in the pass. Each member makes its
  // own: where several share a product they have few rows, which take less time than to wait for
  // each other.
  const void* const* prepare(const float* x, int64_t depth, const Share& rows) const {
    const GemmKernels<float>& gemm = m_.gemm();
    const int64_t bytes = gemm.encodes ? gemm.row_bytes(depth) : 0;
    const void** const a = own_.a.data();
    x += begin_ * depth;
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      a[i] = x + i * depth;
      if (!gemm.encodes) continue;
      a[i] = own_.encoded.data() + i * bytes;
      gemm.encode(x + i * depth, 1, depth, own_.encoded.data() + i * bytes);
    }
    return a;
  }

  // y = layer(x); each member has written its Tasks' part.
  void multiply(const PackedLinear& layer, const float* x, float* y) const {
    float** const c = own_.c.data();
    for (int64_t i = 0; i < count_; ++i) c[i] = y + (begin_ + i) * layer.outputs;
    const Tasks tasks(count_, panels_of(layer), team_);
    m_.gemm().multiply({layer.inputs, layer.outputs, prepare(x, layer.inputs, tasks.rows),
                        layer.panels, c, layer.bias, false},
                       tasks.rows.begin, tasks.rows.end, tasks.panels.begin, tasks.panels.end);
  }

  // The output layer, and the best tokens of each row.
  void find_best(const float* outputs) const {
    const int64_t blocks = topk_blocks(m_.vocabulary),
                  readers = std::min<int64_t>(team_.size, blocks);
    // Readers share the blocks; where there are fewer blocks than members, they share the rows.
    const int64_t lines = team_.size / readers, line = team_.index / readers;
    const Share rows = line < lines ? share_of(count_, line, lines) : Share{0, 0};
    const int64_t first = begin_ + rows.begin, reader = team_.index % readers;
    const auto lists_of = [&](int64_t row) { return w_.lists_.data() + row * readers; };
    for (int64_t row = first; row < begin_ + rows.end; ++row)
      lists_of(row)[reader] = {w_.tokens_.data() + (row * readers + reader) * s_.k};
    scan_products<float>(
        {m_.gemm(), m_.kernels.topk, m_.output.inputs, m_.vocabulary,
         prepare(outputs, m_.output.inputs, rows) + rows.begin, rows.end - rows.begin,
         m_.output.panels, m_.output.bias, s_.k, w_.sums_.data() + first * blocks, lists_of(first)},
        {reader, readers}, own_.logits.data(), own_.c.data());
    if (readers > 1) team_.sync();  // else they are the same rows
    const Share own = own_rows();
    for (int64_t row = own.begin; row < own.end; ++row)
      merge<float>({w_.sums_.data() + row * blocks, blocks, lists_of(row), readers}, s_.k,
                   s_.log_probs + row * s_.k, s_.best + row * s_.k);
  }

  const DecoderModel& m_;
  const DecoderStep& s_;
  DecoderWorkspace& w_;
  DecoderWorkspace::Member& own_;
  const int64_t begin_, count_;
  const Team team_;
  const int64_t layers_, context_;
};

void decoder_step(const DecoderModel& model, const DecoderStep& step, DecoderWorkspace& workspace,
                  const Team& team) {
  const bool alone = step.rows >= rows_alone(model) * team.size;
  const Share rows = alone ? share_of(step.rows, team.index, team.size) : Share{0, step.rows};
  StepPass(model, step, workspace, team.index, rows, alone ? Team{} : team).run();
  team.sync();
}

}  // namespace seq2seq_ext
