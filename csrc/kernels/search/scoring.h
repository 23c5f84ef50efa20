// What a hypothesis is worth, and what a live one can still become.
#pragma once

#include <cstdint>

#include "options.h"

namespace seq2seq_ext {

// Why a hypothesis ended.
enum class Reason { kEos, kMaxLength, kDead, kStopped };

constexpr double kLeastMass = 1e-10;

// beta * sum of log(min(mass, 1)) over the source (gnmt, Wu et al. 2016), a mass below kLeastMass
// counting as that, or beta * sum of (1 - max(mass, 1)) (summary). At most 0. coverage: the mass of
// attention that each position has had [source_length]; not read without a penalty.
double coverage_term(const SearchOptions& options, const double* coverage);

// (sum + word_reward * L) / normaliser(L), where L is what `length` tokens count as and the
// normaliser is 1, L^alpha (power), ((5 + L) / 6)^alpha (gnmt) or L (average); 1 where L < 1.
double length_score(const SearchOptions& options, double sum, int64_t length, bool ends_with_eos);

// At least the score of every hypothesis that goes on from `length` tokens with this sum.
double best_score_in_reach(const SearchOptions& options, double sum, int64_t length);

}  // namespace seq2seq_ext
