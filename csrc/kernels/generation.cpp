#include "generation.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

namespace seq2seq_ext {

namespace {

// Multiply-adds that a member must have in a step to be worth the barriers.
constexpr int64_t kWorthAMember = 100'000;

// Sentences whose search is worth another barrier.
constexpr int64_t kSentencesWorthAMember = 4;

constexpr double kNothing = -std::numeric_limits<double>::infinity();

template <class Vector>
auto* sized(Vector& v, int64_t size) {
  if (static_cast<int64_t>(v.size()) < size) v.resize(size);
  return v.data();
}

}  // namespace

int Generation::team_size(const DecoderModel& model, int64_t rows, int threads) {
  const int64_t wanted = model.weights() * rows / kWorthAMember;
  return static_cast<int>(std::clamp<int64_t>(wanted, 1, threads));
}

void Generation::prepare(const DecoderModel& model, const GenerationInputs& inputs,
                         BeamSearch* search, int team_size) {
  model_ = &model;
  inputs_ = inputs;
  search_ = search;
  errors_.assign(team_size, nullptr);
  was_interrupted_ = false;
  const int64_t rows = search->rows(), k = std::min(search->width(), model.vocabulary);
  workspace_.reserve(model, rows, inputs.sources.length, k, team_size);
  for (Buffer<float>& states : states_) states.reserve(model.state_parts() * rows * model.hidden);
  const bool attends = model.attention != AttentionKind::kNone;
  place_.assign(rows, 0);
  rows_.clear();
  rows_.reserve(rows);
  groups_.reserve(inputs.sources.count);
  step_ = {&inputs_.sources,
           0,
           sized(tokens_, rows),
           sized(parents_, rows),
           &groups_,
           inputs.state,
           inputs.sources.count,
           states_[1].data(),
           rows,
           attends ? sized(weights_, rows * inputs.sources.length) : nullptr,
           nullptr,
           nullptr,
           nullptr,
           k};
  sized(log_probs_, rows * k);
  sized(best_, rows * k);
  sized(rules_, team_size);
  candidate_log_probs_.assign(rows * k, kNothing);
  candidate_perturbed_.assign(rows * k, kNothing);
  candidate_tokens_.assign(rows * k, 0);
  attention_.assign(search->needs_attention() ? rows * inputs.sources.length : 0, 0);
  all_weights_.clear();
  search_tokens_.resize(rows);
  search_parents_.resize(rows);
  std::iota(search_parents_.begin(), search_parents_.end(), 0);
  // The first step's rows continue their sources.
  for (int64_t b = 0; b < inputs.sources.count; ++b)
    for (int64_t row = search->first_row(b); row < rows; ++row) {
      search_tokens_[row] = search->options(b).bos_id;
      place_[row] = b;
    }
}

void Generation::run(const Team& team) {
  const auto safely = [&](const auto& body) {  // nothing may throw among threads
    try {
      body();
    } catch (...) {
      errors_[team.index] = std::current_exception();
    }
  };
  const int64_t sentences = search_->batch_size();
  const bool shares_search = sentences >= kSentencesWorthAMember * team.size;
  for (bool is_first = true;; is_first = false) {
    if (!is_first && step_.logits) {
      safely([&] { choose_under_rules(team); });
      team.sync();
    }
    if (!is_first && shares_search) {
      safely([&] { advance(share_of(sentences, team.index, team.size)); });
      team.sync();
    }
    if (team.index == 0) {
      goes_on_ = false;
      safely([&] {
        if (has_failed()) return;
        if (!is_first) {
          if (!shares_search) advance({0, sentences});
          swap_states();
        }
        goes_on_ = select_rows();
      });
    }
    team.sync();
    if (!goes_on_) return;
    decoder_step(*model_, step_, workspace_, team);
  }
}

void Generation::swap_states() {
  std::swap(states_[0], states_[1]);
  step_.before = states_[0].data();
  step_.rows_before = step_.rows_after;
  step_.after = states_[1].data();
}

bool Generation::has_failed() const {
  return std::any_of(errors_.begin(), errors_.end(), [](const auto& error) { return error; });
}

bool Generation::finish() const {
  for (const std::exception_ptr& error : errors_)
    if (error) std::rethrow_exception(error);
  return !was_interrupted_;
}

// The rows of the next step; false if there are none.
bool Generation::select_rows() {
  if (search_->done()) return false;
  was_interrupted_ = inputs_.interrupt->ask();
  if (was_interrupted_) return false;
  rows_.clear();
  groups_.clear();
  for (int64_t source = 0; source < inputs_.sources.count; ++source) {
    const int64_t begin = rows_.size(), first = search_->first_row(source);
    const int64_t last = first + search_->options(source).beam_size;
    for (int64_t row = first; row < last; ++row) {
      if (!search_->is_live(row)) continue;
      tokens_[rows_.size()] = search_tokens_[row];
      parents_[rows_.size()] = place_[search_parents_[row]];
      rows_.push_back(row);
    }
    const int64_t end = rows_.size();
    if (end > begin) groups_.push_back({source, begin, end});
  }
  for (size_t i = 0; i < rows_.size(); ++i) place_[rows_[i]] = i;
  step_.rows = rows_.size();
  if (step_.weights)
    all_weights_.resize(all_weights_.size() + search_->rows() * inputs_.sources.length);
  const bool has_rules = search_->has_rules();
  step_.logits = has_rules ? sized(logits_, step_.rows * model_->vocabulary) : nullptr;
  step_.log_probs = has_rules ? nullptr : log_probs_.data();
  step_.best = has_rules ? nullptr : best_.data();
  return true;
}

// This member's rows of a step that has logits.
void Generation::choose_under_rules(const Team& team) {
  const int64_t vocab = model_->vocabulary, k = step_.k;
  for (int64_t i = team.index; i < step_.rows; i += team.size) {
    const int64_t place = rows_[i] * k;
    search_->choose(rows_[i], logits_.data() + i * vocab, vocab,
                    {candidate_log_probs_.data() + place, candidate_tokens_.data() + place,
                     candidate_perturbed_.data() + place, k},
                    &rules_[team.index]);
  }
}

// The same for a step whose best tokens are its candidates.
void Generation::take_best(int64_t i) {
  const int64_t k = step_.k, place = rows_[i] * k;
  std::copy_n(log_probs_.data() + i * k, k, candidate_log_probs_.data() + place);
  std::copy_n(best_.data() + i * k, k, candidate_tokens_.data() + place);
}

void Generation::take_weights(int64_t i) {
  const int64_t length = inputs_.sources.length;
  const float* const weights = weights_.data() + i * length;
  std::copy_n(weights, length, all_weights_.end() - (search_->rows() - rows_[i]) * length);
  if (!attention_.empty()) std::copy_n(weights, length, attention_.data() + rows_[i] * length);
}

// The search's turn, after a step.
void Generation::advance(const Share& sentences) {
  for (const SourceRows& group : groups_) {
    if (group.source < sentences.begin || group.source >= sentences.end) continue;
    for (int64_t i = group.begin; i < group.end; ++i) {
      if (step_.weights) take_weights(i);
      if (!step_.logits) take_best(i);
    }
    search_->advance(group.source,
                     {candidate_log_probs_.data(), candidate_tokens_.data(), step_.k,
                      candidate_perturbed_.data(), attention_.empty() ? nullptr : attention_.data(),
                      inputs_.sources.length},
                     search_tokens_.data(), search_parents_.data());
  }
}

void Generation::follow(const Hypothesis& hypothesis, float* weights) const {
  const int64_t length = inputs_.sources.length, rows = search_->rows();
  for (size_t step = 0; step < hypothesis.rows.size(); ++step)
    std::copy_n(all_weights_.data() + (step * rows + hypothesis.rows[step]) * length, length,
                weights + step * length);
}

}  // namespace seq2seq_ext
