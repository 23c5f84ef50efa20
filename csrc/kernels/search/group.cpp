#include "group.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "diversity.h"
#include "gumbel.h"

namespace seq2seq_ext {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// An exact search needs no more than it returns: what the pool would keep behind that could
// only delay the stop.
int64_t pool_size(const SearchOptions& options, int64_t beams) {
  if (options.finished == Finished::kCarry || options.sampling == Sampling::kAncestral)
    return beams;
  const int64_t returned = std::min(options.n_best, beams);
  if (options.early_stopping == EarlyStopping::kExact) return returned;
  return std::max<int64_t>(returned, std::lround(options.patience * beams));
}

}  // namespace

Group::Group(const SearchOptions& options, int64_t beams)
    : beams_(beams),
      slots_(beams),
      live_(options.sampling == Sampling::kAncestral ? beams : 1),
      pool_(pool_size(options, beams), options.full_pool_is_closed),
      place_has_ended_(beams, false) {
  for (size_t lane = 0; lane < live_.size(); ++lane) live_[lane].lane = lane;
  if (options.coverage_penalty != CoveragePenalty::kNone)
    coverage_.assign(2 * beams * options.source_length, 0);
}

bool Group::is_live(int64_t beam) const {
  return beam < static_cast<int64_t>(live_.size()) && !live_[beam].has_ended;
}

void Group::read_prefix(int64_t beam, RulePrefix* prefix) const {
  const Live& live = live_[beam];
  tree_.tokens_to(live.node, &prefix->tokens);
  prefix->progress = live.progress;
  prefix->lane = live.lane;
}

void Group::advance(const SearchOptions& options, const GroupRows& rows, std::vector<int64_t>* used,
                    int64_t* tokens, int64_t* parents) {
  ++length_;
  best_ends_ = false;
  Step step{options, rows, *used, tokens, parents, false, std::move(spare_)};
  if (options.coverage_penalty != CoveragePenalty::kNone) grow_coverage(step);
  if (needs_ranking(step)) {
    step.is_ranked = true;
    ranked_.resize(beams_);
    for (size_t beam = 0; beam < live_.size(); ++beam) rank(step, beam, &ranked_[beam]);
  }
  step.survivors.clear();
  step.survivors.reserve(beams_);
  take_all(&step);
  if (step.survivors.empty() && pool_.is_empty())
    for (const Live& dying : live_) end(options, dying, Reason::kDead);
  spare_ = std::exchange(live_, std::move(step.survivors));
  best_has_ended_ |= best_ends_;
  for (int64_t place = live_.size(); place < beams_; ++place) place_has_ended_[place] = true;
  if (options.finished == Finished::kShrink) slots_ -= step.ended;
  if (options.groups > 1)
    for (size_t beam = 0; beam < live_.size(); ++beam)
      if (!live_[beam].has_ended) used->push_back(tokens[beam]);
  if (is_settled(options)) {
    if (options.finished == Finished::kCarry)
      for (const Live& live : live_) end(options, live, Reason::kMaxLength);
    live_.clear();
  }
  for (int64_t beam = live_.size(); beam < beams_; ++beam) {
    tokens[beam] = options.pad_id;
    parents[beam] = beam;
  }
}

void Group::stop(const SearchOptions& options) {
  for (const Live& live : live_)
    if (!live.is_spent) end(options, live, Reason::kStopped);
  live_.clear();
}

std::vector<Hypothesis> Group::ended() const {
  std::vector<Hypothesis> result;
  for (const Ended& ended : pool_.entries())
    result.push_back(hypothesis(ended.node, ended.score, ended.sum, ended.reason));
  return result;
}

std::vector<Hypothesis> Group::live(const SearchOptions& options) const {
  std::vector<Hypothesis> result;
  for (const Live& live : live_)
    if (!live.is_spent)
      result.push_back(hypothesis(live.node, score(options, live), live.sum,
                                  live.has_ended ? Reason::kEos : Reason::kStopped));
  return result;
}

// What has ended is carried as it is.
void Group::grow_coverage(const Step& step) {
  const int64_t length = step.options.source_length;
  for (size_t beam = 0; beam < live_.size(); ++beam) {
    const double* const before = coverage(step.options, live_[beam].coverage);
    double* const grown = coverage_.data() + children_coverage(beam) * length;
    const double* const weights = step.rows.attention + beam * step.rows.positions;
    for (int64_t i = 0; i < length; ++i)
      grown[i] = live_[beam].has_ended ? before[i] : before[i] + weights[i];
  }
}

bool Group::needs_ranking(const Step& step) const {
  const SearchOptions& options = step.options;
  return (options.diversity > 0 && !step.used.empty()) || options.phrases ||
         options.finished == Finished::kCarry || options.coverage_stepwise ||
         options.sampling == Sampling::kGumbel;
}

// The candidate at a rank of a row as it came; false if the row has no more.
bool Group::candidate(const Step& step, int64_t beam, int64_t rank, Candidate* found) const {
  if (rank == step.rows.width) return false;
  const int64_t place = beam * step.rows.width + rank;
  const double log_prob = std::min(step.rows.log_probs[place], 0.0);  // a NaN stays one
  *found = {live_[beam].sum + log_prob, log_prob, beam, step.rows.tokens[place]};
  return found->key > -kInfinity;
}

void Group::rank(const Step& step, int64_t beam, std::vector<Candidate>* ranked) const {
  const SearchOptions& options = step.options;
  const Live& parent = live_[beam];
  ranked->clear();
  if (parent.has_ended)
    return ranked->push_back(
        {options.rank_by_score ? score(options, parent) : parent.sum, 0, beam, options.pad_id});
  for (int64_t rank = 0; rank < step.rows.width; ++rank) {
    Candidate found;
    if (!candidate(step, beam, rank, &found)) continue;
    if (options.rank_by_score)
      found.key = length_score(options, found.key, length_, options.is_eos(found.token));
    if (options.coverage_stepwise)
      found.key += coverage_term(options, coverage(options, children_coverage(beam)));
    if (options.sampling == Sampling::kGumbel) {
      const double* perturbed = step.rows.perturbed + beam * step.rows.width;
      found.key = conditioned(parent.sum + perturbed[rank], parent.sum + perturbed[0], parent.key);
    }
    found.key -= diversity_loss(options.diversity, step.used.data(), step.used.size(), found.token);
    // Few are not in their place already.
    const auto place =
        std::upper_bound(ranked->begin(), ranked->end(), found,
                         [](const Candidate& a, const Candidate& b) { return a.key > b.key; });
    ranked->insert(place, found);
  }
}

// The candidate at a rank of those of a live hypothesis; false if it has no more.
bool Group::ranked_candidate(const Step& step, int64_t beam, int64_t rank, Candidate* found) const {
  if (!step.is_ranked) return candidate(step, beam, rank, found);
  if (rank == static_cast<int64_t>(ranked_[beam].size())) return false;
  *found = ranked_[beam][rank];
  return true;
}

// Calls take(candidate) on the candidates in their order, (key desc, beam asc), until it returns
// false.
template <class Take>
void Group::walk(const Step& step, const Take& take) {
  heads_.clear();
  const auto push = [&](int64_t beam, int64_t rank) {
    Head head{{}, rank};
    if (!ranked_candidate(step, beam, rank, &head.candidate)) return;
    heads_.push_back(head);
    std::push_heap(heads_.begin(), heads_.end());
  };
  for (size_t beam = 0; beam < live_.size(); ++beam) push(beam, 0);
  while (!heads_.empty()) {
    std::pop_heap(heads_.begin(), heads_.end());
    const Head head = heads_.back();
    heads_.pop_back();
    if (!take(head.candidate)) return;
    push(head.candidate.beam, head.rank + 1);
  }
}

// Offers of banks of candidates that have come equally far in their phrases, taken from in turn,
// the furthest bank first: so unlikely phrases are not crowded out (Post and Vilar 2018).
void Group::interleave_banks(const Step& step) {
  offers_.clear();
  turns_.clear();
  const SearchOptions& options = step.options;
  walk(step, [&](const Candidate& candidate) {
    PhraseSet::State state = live_[candidate.beam].progress.phrases;
    if (!options.is_eos(candidate.token)) state = options.phrases->next(state, candidate.token);
    const int64_t bank = options.phrases->progress(state);
    if (bank >= static_cast<int64_t>(turns_.size())) turns_.resize(bank + 1, 0);
    offers_.push_back({turns_[bank]++, bank, candidate});
    return true;
  });
  std::sort(offers_.begin(), offers_.end(), [](const Offer& a, const Offer& b) {
    return std::tie(a.turn, b.bank) < std::tie(b.turn, a.bank);
  });
}

void Group::take_all(Step* step) {
  const auto take_one = [&](const Candidate& candidate) { return take(step, candidate); };
  if (step->options.sampling == Sampling::kAncestral) {
    Candidate drawn;
    for (size_t beam = 0; beam < live_.size(); ++beam)
      if (candidate(*step, beam, 0, &drawn)) take(step, drawn);
  } else if (step->options.phrases) {
    interleave_banks(*step);
    for (const Offer& offer : offers_)
      if (!take_one(offer.candidate)) break;
  } else {
    walk(*step, take_one);
  }
}

// Gives a candidate its place, if it has one; whether there may be a place for the next.
bool Group::take(Step* step, const Candidate& candidate) {
  const SearchOptions& options = step->options;
  const Live& parent = live_[candidate.beam];
  const bool is_carried = parent.has_ended;
  const bool is_eos = !is_carried && options.is_eos(candidate.token);
  if (is_eos && (length_ < options.min_length || !parent.progress.is_complete(options)))
    return true;
  const bool ends = is_eos && !parent.is_spent;
  const bool is_in_beam = step->met++ < slots_;
  best_ends_ |= ends && step->met == 1;
  const bool carries = options.finished == Finished::kCarry;
  const bool extends = options.finished == Finished::kExtend;
  Live child = is_carried ? parent : extend(*step, candidate, ends);
  child.coverage = children_coverage(candidate.beam);
  const bool is_cut = !ends && !child.is_spent && length_ == options.max_length;
  if ((ends || is_cut) && !carries && (is_in_beam || options.ends_beyond_beam)) {
    end(options, child, ends ? Reason::kEos : Reason::kMaxLength);
    step->ended += ends;
  }
  if (!ends || carries || extends) {
    const int64_t beam = step->survivors.size();
    if (extends && is_eos) {
      child.has_ended = false;
      child.is_spent = true;
      place_has_ended_[beam] = true;
    }
    if (options.sampling != Sampling::kAncestral) child.lane = beam;
    step->tokens[beam] = ends && carries ? options.pad_id : candidate.token;
    step->parents[beam] = candidate.beam;
    step->survivors.push_back(child);
  }
  const bool refills = options.finished == Finished::kPool;
  return (refills ? static_cast<int64_t>(step->survivors.size()) : step->met) < slots_;
}

Group::Live Group::extend(const Step& step, const Candidate& candidate, bool ends) {
  const Live& parent = live_[candidate.beam];
  Live child;
  child.node = tree_.extend(
      {parent.node, candidate.token, step.rows.first + candidate.beam, candidate.log_prob});
  child.length = length_;
  child.sum = parent.sum + candidate.log_prob;
  child.key = candidate.key;
  child.has_ended = ends;
  child.is_spent = parent.is_spent;
  child.lane = parent.lane;
  child.progress = ends ? parent.progress : parent.progress.next(step.options, candidate.token);
  return child;
}

double Group::score(const SearchOptions& options, const Live& live) const {
  if (options.sampling == Sampling::kGumbel) return live.key;
  return length_score(options, live.sum, live.length, live.has_ended) +
         coverage_term(options, coverage(options, live.coverage));
}

// Into the pool, unless a constraint is not fulfilled.
void Group::end(const SearchOptions& options, const Live& live, Reason reason) {
  if (!live.progress.is_complete(options)) return;
  pool_.add({live.node, live.sum, score(options, live), live.has_ended ? Reason::kEos : reason});
}

bool Group::is_settled(const SearchOptions& options) const {
  if (live_.empty() || length_ == options.max_length) return true;
  if (options.finished == Finished::kCarry)
    return std::all_of(live_.begin(), live_.end(), [](const Live& l) { return l.has_ended; });
  if (options.sampling == Sampling::kAncestral) return false;
  switch (options.early_stopping) {
    case EarlyStopping::kExact:
    case EarlyStopping::kHeuristic:
      return pool_.is_full() && best_in_reach(options) <= pool_.worst();
    case EarlyStopping::kFirst:
      return pool_.offered() >= pool_.size();
    case EarlyStopping::kTop:
      return best_has_ended_ && pool_.offered() >= options.n_best;
    case EarlyStopping::kTopNow:
      return best_ends_ && pool_.offered() >= options.n_best;
    case EarlyStopping::kPlaces:
      return std::all_of(place_has_ended_.begin(), place_has_ended_.end(),
                         [](bool has_ended) { return has_ended; });
    default:
      return false;
  }
}

// The best score that a live hypothesis can have once it ends; or, under the heuristic, would
// have if it ended here.
double Group::best_in_reach(const SearchOptions& options) const {
  double best = -kInfinity;
  for (const Live& live : live_) {
    double bound;
    if (options.sampling == Sampling::kGumbel)
      bound = live.key;
    else if (options.early_stopping == EarlyStopping::kHeuristic)
      bound = length_score(options, live.sum, length_, false);
    else
      bound = best_score_in_reach(options, live.sum, length_);
    best = std::max(best, bound);
  }
  return best;
}

Hypothesis Group::hypothesis(int64_t node, double score, double sum, Reason reason) const {
  Hypothesis found{{}, {}, {}, score, sum, reason};
  for (const auto& each : tree_.path_to(node)) {
    found.tokens.push_back(each.token);
    found.token_log_probs.push_back(each.log_prob);
    found.rows.push_back(each.row);
  }
  return found;
}

}  // namespace seq2seq_ext
