#include "generation.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace seq2seq_ext {

namespace {

// Multiply-adds that a member must have in a step to be worth the barriers.
constexpr int64_t kWorthAMember = 100'000;

constexpr int64_t kDead = -1;  // what a row without a hypothesis is fed, in the trace

int64_t weights_of(const DecoderModel& m) {
  int64_t total = m.output.inputs * m.output.outputs + m.combine.inputs * m.combine.outputs;
  for (const PackedLayer& layer : m.layers)
    total += m.cell_kernels().gates * layer.sizes.hidden * (layer.sizes.input + layer.sizes.output);
  return total;
}

template <class Vector>
auto* sized(Vector& v, int64_t size) {
  if (static_cast<int64_t>(v.size()) < size) v.resize(size);
  return v.data();
}

}  // namespace

int Generation::team_size(const DecoderModel& model, int64_t rows, int threads) {
  const int64_t wanted = weights_of(model) * rows / kWorthAMember;
  return static_cast<int>(std::clamp<int64_t>(wanted, 1, threads));
}

void Generation::prepare(const DecoderModel& model, const GenerationInputs& inputs,
                         BeamSearch* search, int team_size) {
  model_ = &model;
  inputs_ = inputs;
  search_ = search;
  error_ = nullptr;
  was_interrupted_ = false;
  const int64_t rows = search->rows(), k = std::min(search->width(), model.vocabulary);
  workspace_.reserve(model, rows, inputs.sources.length, k, team_size);
  const bool attends = model.attention != AttentionKind::kNone;
  place_.assign(rows, 0);
  rows_.reserve(rows);
  groups_.reserve(inputs.sources.count);
  step_ = {&inputs_.sources,
           0,
           sized(tokens_, rows),
           sized(parents_, rows),
           &groups_,
           inputs.state,
           inputs.sources.count,
           sized(state_, model.state_parts() * rows * model.hidden),
           rows,
           attends ? sized(weights_, rows * inputs.sources.length) : nullptr,
           nullptr,
           sized(log_probs_, rows * k),
           sized(best_, rows * k),
           k};
  candidate_log_probs_.assign(rows * k, -std::numeric_limits<double>::infinity());
  candidate_tokens_.assign(rows * k, 0);
  search_tokens_.assign(rows, inputs.bos_id);
  search_parents_.resize(rows);
  std::iota(search_parents_.begin(), search_parents_.end(), 0);
  trace_.steps = 0;
  trace_.tokens.clear();
  trace_.parents.clear();
  trace_.weights.clear();
  // The first step's rows continue their sources.
  for (int64_t b = 0; b < inputs.sources.count; ++b)
    for (int64_t row = search->first_row(b); row < rows; ++row) place_[row] = b;
}

void Generation::run(const Team& team) {
  for (;;) {
    if (team.index == 0) {
      try {
        if (trace_.steps > 0) choose();
        goes_on_ = select_rows();
      } catch (...) {
        error_ = std::current_exception();
        goes_on_ = false;
      }
    }
    team.sync();
    if (!goes_on_) return;
    decoder_step(*model_, step_, workspace_, team);
  }
}

bool Generation::finish() const {
  if (error_) std::rethrow_exception(error_);
  return !was_interrupted_;
}

// The rows of the next step; false if there are none.
bool Generation::select_rows() {
  if (search_->done()) return false;
  was_interrupted_ = inputs_.interrupted(inputs_.interrupted_data);
  if (was_interrupted_) return false;
  rows_.clear();
  groups_.clear();
  trace_.tokens.insert(trace_.tokens.end(), search_tokens_.size(), kDead);
  trace_.parents.insert(trace_.parents.end(), search_parents_.begin(), search_parents_.end());
  int64_t* const fed = trace_.tokens.data() + trace_.steps * search_->rows();
  for (int64_t source = 0; source < inputs_.sources.count; ++source) {
    const int64_t begin = rows_.size(), first = search_->first_row(source);
    const int64_t last =
        source + 1 < inputs_.sources.count ? search_->first_row(source + 1) : search_->rows();
    for (int64_t row = first; row < last; ++row) {
      if (!search_->is_live(row)) continue;
      fed[row] = tokens_[rows_.size()] = search_tokens_[row];
      parents_[rows_.size()] = place_[search_parents_[row]];
      rows_.push_back(row);
    }
    const int64_t end = rows_.size();
    if (end > begin) groups_.push_back({source, begin, end});
  }
  for (size_t i = 0; i < rows_.size(); ++i) place_[rows_[i]] = i;
  step_.rows = rows_.size();
  trace_.steps += 1;
  return true;
}

// The search's turn, after a step.
void Generation::choose() {
  const int64_t k = step_.k;
  if (step_.weights) record_weights();
  for (size_t i = 0; i < rows_.size(); ++i) {
    std::copy_n(log_probs_.data() + i * k, k, candidate_log_probs_.data() + rows_[i] * k);
    std::copy_n(best_.data() + i * k, k, candidate_tokens_.data() + rows_[i] * k);
  }
  search_->advance({candidate_log_probs_.data(), candidate_tokens_.data(), k},
                   search_tokens_.data(), search_parents_.data());
  step_.before = step_.after;
  step_.rows_before = step_.rows_after;
}

void Generation::record_weights() {
  const int64_t length = inputs_.sources.length, rows = search_->rows();
  const size_t begin = trace_.weights.size();
  trace_.weights.resize(begin + rows * length);
  for (size_t i = 0; i < rows_.size(); ++i)
    std::copy_n(weights_.data() + i * length, length,
                trace_.weights.data() + begin + rows_[i] * length);
}

// The row of a step that continues a row with a token. Those that do are equal: any will do.
int64_t Generation::child(int64_t step, int64_t parent, int64_t token) const {
  const int64_t rows = search_->rows();
  int64_t row = parent;
  while (trace_.parents[step * rows + row] != parent || trace_.tokens[step * rows + row] != token)
    row = (row + 1) % rows;
  return row;
}

void Generation::follow(int64_t sentence, const std::vector<int64_t>& tokens,
                        float* weights) const {
  const int64_t length = inputs_.sources.length, rows = search_->rows();
  int64_t row = search_->first_row(sentence);
  for (size_t step = 0; step < tokens.size(); ++step) {
    if (step > 0) row = child(step, row, tokens[step - 1]);
    std::copy_n(trace_.weights.data() + (step * rows + row) * length, length,
                weights + step * length);
  }
}

}  // namespace seq2seq_ext
