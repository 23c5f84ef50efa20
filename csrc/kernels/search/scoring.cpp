#include "scoring.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace seq2seq_ext {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double normaliser(const SearchOptions& options, int64_t counted) {
  if (counted < 1) return 1;
  switch (options.length_penalty) {
    case LengthPenalty::kPower:
      return std::pow(static_cast<double>(counted), options.alpha);
    case LengthPenalty::kGnmt:
      return std::pow((5.0 + counted) / 6.0, options.alpha);
    case LengthPenalty::kAverage:
      return static_cast<double>(counted);
    default:
      return 1;
  }
}

}  // namespace

double coverage_term(const SearchOptions& options, const double* coverage) {
  if (options.coverage_penalty == CoveragePenalty::kNone) return 0;
  double total = 0;
  for (int64_t i = 0; i < options.source_length; ++i) {
    const double mass = coverage[i];
    total += options.coverage_penalty == CoveragePenalty::kGnmt
                 ? std::log(std::max(std::min(mass, 1.0), kLeastMass))
                 : 1 - std::max(mass, 1.0);
  }
  return options.beta * total;
}

double length_score(const SearchOptions& options, double sum, int64_t length, bool ends_with_eos) {
  const int64_t counted =
      length + options.length_offset - (ends_with_eos && !options.count_eos ? 1 : 0);
  return (sum + options.word_reward * counted) / normaliser(options, counted);
}

// Sums only fall, and coverage terms are at most 0.
double best_score_in_reach(const SearchOptions& options, double sum, int64_t length) {
  // Without a reward the score is monotone in the length: the best is at an end. A length that
  // counts as less than 1 has the normaliser 1 and breaks that.
  const bool is_monotone = options.word_reward == 0 && length + options.length_offset >= 1;
  double best = -kInfinity;
  for (int64_t reached = length; reached <= options.max_length; ++reached) {
    if (is_monotone && reached > length + 1) reached = options.max_length;
    if (reached > length || !options.count_eos)
      best = std::max(best, length_score(options, sum, reached, false));
  }
  return best;
}

}  // namespace seq2seq_ext
