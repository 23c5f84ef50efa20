// SearchOptions for Python: one keyword a field, by the names of BeamSearchOptions. Everything that
// could hurt the engine is checked here; what a user should read is in seq2seq_ext/decoding.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "kernels/search/options.h"

namespace seq2seq_ext {

namespace py = pybind11;

namespace {

constexpr int64_t kMaxId = std::numeric_limits<int32_t>::max();

[[noreturn]] void fail(const std::string& name, const std::string& expected) {
  throw py::value_error("SearchOptions: " + name + ": expected " + expected);
}

void check(bool holds, const char* name, const char* expected) {
  if (!holds) fail(name, expected);
}

void check_tokens(const char* name, const std::vector<int64_t>& tokens) {
  for (const int64_t token : tokens)
    check(token >= 0 && token <= kMaxId, name, "tokens from 0 to 2^31 - 1");
}

void check_sequences(const char* name, const std::vector<std::vector<int64_t>>& sequences) {
  for (const auto& sequence : sequences) {
    check(!sequence.empty(), name, "no empty sequence");
    check_tokens(name, sequence);
  }
}

void check_numbers(const SearchOptions& o) {
  check(o.beam_size >= 1 && o.beam_size <= kMaxId, "beam_size", "at least 1, below 2^31");
  check(o.n_best >= 1 && o.n_best <= o.beam_size, "n_best", "1 to beam_size");
  check(o.patience > 0 && o.patience <= 1e6, "patience", "above 0, at most 1e6");
  check(o.groups >= 1 && o.beam_size % o.groups == 0, "beam_groups", "a divisor of beam_size");
  check(o.diversity >= 0 && std::isfinite(o.diversity), "diversity_penalty", "at least 0");
  check(o.max_length >= 1 && o.max_length <= kMaxId, "max_length", "at least 1, below 2^31");
  check(o.min_length >= 0 && o.min_length <= o.max_length, "min_length", "0 to max_length");
  check(std::isfinite(o.alpha), "alpha", "a finite number");
  check(std::isfinite(o.word_reward), "word_reward", "a finite number");
  check(std::abs(o.length_offset) <= kMaxId, "length_offset", "below 2^31");
  check(o.beta >= 0 && std::isfinite(o.beta), "beta", "at least 0");
  check(o.source_length >= 0, "source_length", "at least 0");
  check(o.temperature > 0 && std::isfinite(o.temperature), "temperature", "above 0");
  check(o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty), "repetition_penalty",
        "above 0");
  check(o.no_repeat_ngram >= 0, "no_repeat_ngram_size", "at least 0");
  check(o.top_k >= 0, "top_k", "at least 0");
  check(o.top_p > 0 && o.top_p <= 1, "top_p", "above 0, at most 1");
}

void check_ids(const SearchOptions& o) {
  check(!o.eos_ids.empty(), "eos_id", "at least one");
  check_tokens("eos_id", o.eos_ids);
  check_tokens("bos_id", {o.bos_id});
  check_tokens("prefix", o.prefix);
  check(static_cast<int64_t>(o.prefix.size()) <= o.max_length, "prefix",
        "at most max_length tokens");
  check_sequences("banned", o.banned);
  if (!o.shortlist) return;
  check_tokens("shortlist", *o.shortlist);
  for (size_t i = 1; i < o.shortlist->size(); ++i)
    check((*o.shortlist)[i - 1] < (*o.shortlist)[i], "shortlist", "tokens that ascend");
}

// What does not go together: each of these would read what is not there.
void check_combination(const SearchOptions& o) {
  const bool is_plain = o.finished == Finished::kPool && o.groups == 1 && !o.phrases;
  check(o.sampling == Sampling::kNone || is_plain, "sampling",
        "\"none\" with groups, phrases or a beam that is no pool");
  check(o.finished != Finished::kExtend || (!o.trie && !o.phrases), "finished",
        "something else than \"extend\" with a trie or phrases");
}

template <class Enum>
Enum named(const char* name, const std::string& value, const std::map<std::string, Enum>& names) {
  const auto found = names.find(value);
  if (found != names.end()) return found->second;
  std::string expected = "one of";
  for (const auto& [each, ignored] : names) expected += " " + each;
  fail(name, expected + ", got '" + value + "'");
}

using Setter = void (*)(SearchOptions*, const py::handle&);

template <auto field>
void set(SearchOptions* options, const py::handle& value) {
  using Field = std::remove_reference_t<decltype(options->*field)>;
  options->*field = value.cast<Field>();
}

void set_length_penalty(SearchOptions* o, const py::handle& value) {
  o->length_penalty = named<LengthPenalty>("length_penalty", value.cast<std::string>(),
                                           {{"none", LengthPenalty::kNone},
                                            {"power", LengthPenalty::kPower},
                                            {"average", LengthPenalty::kAverage},
                                            {"gnmt", LengthPenalty::kGnmt}});
}

void set_coverage_penalty(SearchOptions* o, const py::handle& value) {
  o->coverage_penalty = named<CoveragePenalty>("coverage_penalty", value.cast<std::string>(),
                                               {{"none", CoveragePenalty::kNone},
                                                {"gnmt", CoveragePenalty::kGnmt},
                                                {"summary", CoveragePenalty::kSummary}});
}

void set_early_stopping(SearchOptions* o, const py::handle& value) {
  o->early_stopping = named<EarlyStopping>("early_stopping", value.cast<std::string>(),
                                           {{"exact", EarlyStopping::kExact},
                                            {"heuristic", EarlyStopping::kHeuristic},
                                            {"first", EarlyStopping::kFirst},
                                            {"top", EarlyStopping::kTop},
                                            {"top_now", EarlyStopping::kTopNow},
                                            {"places", EarlyStopping::kPlaces},
                                            {"none", EarlyStopping::kNone}});
}

void set_finished(SearchOptions* o, const py::handle& value) {
  o->finished = named<Finished>("finished", value.cast<std::string>(),
                                {{"pool", Finished::kPool},
                                 {"dip", Finished::kDip},
                                 {"shrink", Finished::kShrink},
                                 {"carry", Finished::kCarry},
                                 {"extend", Finished::kExtend}});
}

void set_sampling(SearchOptions* o, const py::handle& value) {
  o->sampling = named<Sampling>("sampling", value.cast<std::string>(),
                                {{"none", Sampling::kNone},
                                 {"ancestral", Sampling::kAncestral},
                                 {"gumbel", Sampling::kGumbel}});
}

void set_shortlist(SearchOptions* o, const py::handle& value) {
  if (value.is_none()) return;
  o->shortlist = std::make_shared<const std::vector<int64_t>>(value.cast<std::vector<int64_t>>());
}

// One of two names.
template <bool SearchOptions::* field>
void set_choice(SearchOptions* o, const py::handle& value, const char* name, const char* no,
                const char* yes) {
  o->*field = named<bool>(name, value.cast<std::string>(), {{no, false}, {yes, true}});
}

void set_rank_by(SearchOptions* o, const py::handle& value) {
  set_choice<&SearchOptions::rank_by_score>(o, value, "rank_by", "sum", "score");
}

void set_full_pool(SearchOptions* o, const py::handle& value) {
  set_choice<&SearchOptions::full_pool_is_closed>(o, value, "full_pool", "best", "first");
}

void set_rules_on(SearchOptions* o, const py::handle& value) {
  set_choice<&SearchOptions::rules_on_log_probs>(o, value, "rules_on", "logits", "log_probs");
}

template <class Shared, std::shared_ptr<const Shared> SearchOptions::* field>
void set_shared(SearchOptions* o, const py::handle& value) {
  if (!value.is_none()) o->*field = value.cast<std::shared_ptr<Shared>>();
}

const std::map<std::string, Setter>& setters() {
  using O = SearchOptions;
  static const std::map<std::string, Setter> all = {
      {"eos_id", set<&O::eos_ids>},
      {"bos_id", set<&O::bos_id>},
      {"pad_id", set<&O::pad_id>},
      {"beam_size", set<&O::beam_size>},
      {"n_best", set<&O::n_best>},
      {"patience", set<&O::patience>},
      {"beam_groups", set<&O::groups>},
      {"diversity_penalty", set<&O::diversity>},
      {"max_length", set<&O::max_length>},
      {"min_length", set<&O::min_length>},
      {"length_penalty", set_length_penalty},
      {"alpha", set<&O::alpha>},
      {"word_reward", set<&O::word_reward>},
      {"length_offset", set<&O::length_offset>},
      {"count_eos", set<&O::count_eos>},
      {"coverage_penalty", set_coverage_penalty},
      {"beta", set<&O::beta>},
      {"coverage_stepwise", set<&O::coverage_stepwise>},
      {"source_length", set<&O::source_length>},
      {"early_stopping", set_early_stopping},
      {"finished", set_finished},
      {"rank_by", set_rank_by},
      {"eos_beyond_beam", set<&O::ends_beyond_beam>},
      {"full_pool", set_full_pool},
      {"force_eos", set<&O::force_eos>},
      {"shortlist", set_shortlist},
      {"rules_on", set_rules_on},
      {"temperature", set<&O::temperature>},
      {"repetition_penalty", set<&O::repetition_penalty>},
      {"rules_see_bos", set<&O::rules_see_bos>},
      {"no_repeat_ngram_size", set<&O::no_repeat_ngram>},
      {"banned", set<&O::banned>},
      {"prefix", set<&O::prefix>},
      {"trie", set_shared<TokenTrie, &O::trie>},
      {"phrases", set_shared<PhraseSet, &O::phrases>},
      {"top_k", set<&O::top_k>},
      {"top_p", set<&O::top_p>},
      {"renormalize", set<&O::renormalize>},
      {"normalized", set<&O::normalized>},
      {"sampling", set_sampling},
      {"seed", set<&O::seed>},
  };
  return all;
}

SearchOptions make(const py::kwargs& fields) {
  SearchOptions options;
  for (const auto& [key, value] : fields) {
    const std::string name = key.cast<std::string>();
    const auto setter = setters().find(name);
    if (setter == setters().end()) throw py::type_error("SearchOptions: no field '" + name + "'");
    setter->second(&options, value);
  }
  check_numbers(options);
  check_ids(options);
  check_combination(options);
  return options;
}

TokenTrie make_trie(const std::vector<std::vector<int64_t>>& sequences) {
  for (const auto& sequence : sequences) check_tokens("trie", sequence);
  return TokenTrie(sequences);
}

PhraseSet make_phrases(const std::vector<std::vector<int64_t>>& phrases) {
  check(!phrases.empty() && phrases.size() <= 64, "phrases", "1 to 64");
  check_sequences("phrases", phrases);
  return PhraseSet(phrases);
}

}  // namespace

void bind_search_options(py::module_& m) {
  py::class_<TokenTrie, std::shared_ptr<TokenTrie>>(m, "TokenTrie").def(py::init(&make_trie));
  py::class_<PhraseSet, std::shared_ptr<PhraseSet>>(m, "PhraseSet").def(py::init(&make_phrases));
  py::class_<SearchOptions>(m, "SearchOptions").def(py::init(&make));
}

}  // namespace seq2seq_ext
