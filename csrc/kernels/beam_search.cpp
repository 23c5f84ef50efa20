#include "beam_search.h"

#include <algorithm>
#include <utility>

namespace seq2seq_ext {

namespace {

// How many of a row's best a sentence reads: those that can survive, those that can be EOS, and
// those that earlier groups can have used.
int64_t best_read(const SearchOptions& options) {
  return options.beam_size + static_cast<int64_t>(options.eos_ids.size());
}

int64_t width_of(const SearchOptions& options) {
  return best_read(options) + (options.phrases ? options.phrases->max_advancing() : 0);
}

}  // namespace

BeamSearch::BeamSearch(std::vector<SearchOptions> options) {
  int64_t rows = 0;
  for (SearchOptions& each : options) {
    const int64_t beams = each.beam_size / each.groups;
    sentences_.push_back({std::move(each), {}, rows, {}});
    Sentence& sentence = sentences_.back();
    for (int64_t g = 0; g < sentence.options.groups; ++g)
      sentence.groups.emplace_back(sentence.options, beams);
    rows += sentence.options.beam_size;
    sentence_of_row_.resize(rows, sentences_.size() - 1);
    width_ = std::max(width_, width_of(sentence.options));
    largest_token_ = std::max(largest_token_, sentence.options.largest_token());
  }
}

bool BeamSearch::done() const {
  return std::all_of(sentences_.begin(), sentences_.end(), [](const Sentence& sentence) {
    return std::all_of(sentence.groups.begin(), sentence.groups.end(),
                       [](const Group& group) { return group.done(); });
  });
}

bool BeamSearch::done(int64_t sentence) const {
  const auto& groups = sentences_[sentence].groups;
  return std::all_of(groups.begin(), groups.end(), [](const Group& group) { return group.done(); });
}

const Group& BeamSearch::group_of(int64_t row, int64_t* beam) const {
  const Sentence& sentence = sentences_[sentence_of_row_[row]];
  const int64_t place = row - sentence.first_row;
  *beam = place % sentence.beams();
  return sentence.groups[place / sentence.beams()];
}

bool BeamSearch::is_live(int64_t row) const {
  int64_t beam;
  return group_of(row, &beam).is_live(beam);
}

std::vector<int64_t> BeamSearch::prefix(int64_t row) const {
  int64_t beam;
  RulePrefix prefix;
  group_of(row, &beam).read_prefix(beam, &prefix);
  return prefix.tokens;
}

bool BeamSearch::has_rules(int64_t row) const {
  int64_t beam;
  const Group& group = group_of(row, &beam);
  return group.is_live(beam) && rules_are_active(options(sentence_of_row_[row]), group.length());
}

bool BeamSearch::has_rules() const {
  for (const Sentence& sentence : sentences_)
    for (const Group& group : sentence.groups)
      if (!group.done() && rules_are_active(sentence.options, group.length())) return true;
  return false;
}

bool BeamSearch::may_have_rules() const {
  return std::any_of(sentences_.begin(), sentences_.end(), [](const Sentence& sentence) {
    return rules_are_active(sentence.options, 0) || sentence.options.force_eos;
  });
}

bool BeamSearch::needs_attention() const {
  return std::any_of(sentences_.begin(), sentences_.end(), [](const Sentence& sentence) {
    return sentence.options.coverage_penalty != CoveragePenalty::kNone;
  });
}

bool BeamSearch::has_begun() const {
  return std::any_of(sentences_.begin(), sentences_.end(),
                     [](const Sentence& sentence) { return sentence.groups[0].length() > 0; });
}

template <typename T>
void BeamSearch::choose(int64_t row, T* logits, int64_t vocab, const RowCandidates& out,
                        RuleWorkspace<T>* workspace) const {
  const SearchOptions& told = options(sentence_of_row_[row]);
  int64_t beam;
  const Group& group = group_of(row, &beam);
  if (!rules_are_active(told, group.length()))
    return choose_best(logits, vocab, best_read(told), out, workspace);
  group.read_prefix(beam, &workspace->prefix);
  choose_candidates(told, logits, vocab, best_read(told), out, workspace);
}

template void BeamSearch::choose(int64_t, float*, int64_t, const RowCandidates&,
                                 RuleWorkspace<float>*) const;
template void BeamSearch::choose(int64_t, double*, int64_t, const RowCandidates&,
                                 RuleWorkspace<double>*) const;

void BeamSearch::advance(const Candidates& candidates, int64_t* tokens, int64_t* parents) {
  for (int64_t sentence = 0; sentence < batch_size(); ++sentence)
    advance(sentence, candidates, tokens, parents);
}

void BeamSearch::advance(int64_t sentence_index, const Candidates& candidates, int64_t* tokens,
                         int64_t* parents) {
  Sentence& sentence = sentences_[sentence_index];
  sentence.used.clear();
  int64_t row = sentence.first_row;
  for (Group& group : sentence.groups) {
    const int64_t beams = sentence.beams(), place = row * candidates.width;
    if (group.done()) {
      std::fill_n(tokens + row, beams, sentence.options.pad_id);
      for (int64_t beam = 0; beam < beams; ++beam) parents[row + beam] = beam;
    } else {
      const GroupRows rows{
          row,
          candidates.log_probs + place,
          candidates.tokens + place,
          candidates.perturbed ? candidates.perturbed + place : nullptr,
          candidates.width,
          candidates.attention ? candidates.attention + row * candidates.positions : nullptr,
          candidates.positions};
      group.advance(sentence.options, rows, &sentence.used, tokens + row, parents + row);
    }
    for (int64_t beam = 0; beam < beams; ++beam) parents[row + beam] += row;
    row += beams;
  }
}

void BeamSearch::stop(int64_t sentence) {
  for (Group& group : sentences_[sentence].groups) group.stop(sentences_[sentence].options);
}

std::vector<Hypothesis> BeamSearch::hypotheses(int64_t sentence) const {
  std::vector<Hypothesis> found;
  for (const Group& group : sentences_[sentence].groups)
    for (Hypothesis& hypothesis : group.ended()) found.push_back(std::move(hypothesis));
  std::stable_sort(found.begin(), found.end(),
                   [](const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; });
  const int64_t n_best = sentences_[sentence].options.n_best;
  if (static_cast<int64_t>(found.size()) > n_best) found.resize(n_best);
  return found;
}

std::vector<Hypothesis> BeamSearch::live(int64_t sentence) const {
  std::vector<Hypothesis> found;
  for (const Group& group : sentences_[sentence].groups)
    for (Hypothesis& hypothesis : group.live(sentences_[sentence].options))
      found.push_back(std::move(hypothesis));
  return found;
}

}  // namespace seq2seq_ext
