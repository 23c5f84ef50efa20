// BeamSearch for Python. Everything that could hurt the engine is checked here.
#include "beam_search.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <mutex>
#include <string>

namespace seq2seq_ext {

namespace py = pybind11;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Logits of a step below which waking threads takes longer than what they do.
constexpr int64_t kWorthThreads = 1 << 15;

template <typename T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

std::string shape_of(const py::array& array) {
  return py::cast<std::string>(py::str(array.attr("shape")));
}

const char* name_of(Reason reason) {
  switch (reason) {
    case Reason::kEos:
      return "eos";
    case Reason::kMaxLength:
      return "max_length";
    case Reason::kDead:
      return "dead";
    default:
      return "stopped";
  }
}

py::tuple to_tuple(const Hypothesis& hypothesis) {
  return py::make_tuple(hypothesis.tokens, hypothesis.score, hypothesis.log_prob,
                        hypothesis.token_log_probs, name_of(hypothesis.reason));
}

// The lock lets threads of Python share an object: without the GIL nothing else does.
class BoundBeamSearch {
 public:
  explicit BoundBeamSearch(std::vector<SearchOptions> options) : search_(std::move(options)) {}

  SearchHandle handle() { return {&search_, &mutex_}; }
  int64_t rows() const { return search_.rows(); }
  int64_t width() const { return search_.width(); }
  int64_t largest_token() const { return search_.largest_token(); }

  template <class Read>
  auto read(const Read& read_search) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return read_search(search_);
  }

  bool done() {
    return read([](const BeamSearch& search) { return search.done(); });
  }

  bool is_done(int64_t sentence) {
    check_sentence(sentence);
    return read([&](const BeamSearch& search) { return search.done(sentence); });
  }

  bool has_rules() {
    return read([](const BeamSearch& search) { return search.has_rules(); });
  }

  std::vector<bool> live_rows() {
    return read([](const BeamSearch& search) {
      std::vector<bool> live(search.rows());
      for (int64_t row = 0; row < search.rows(); ++row) live[row] = search.is_live(row);
      return live;
    });
  }

  std::vector<int64_t> prefix(int64_t row) {
    return read([&](const BeamSearch& search) {
      if (row < 0 || row >= search.rows() || !search.is_live(row))
        throw py::value_error("BeamSearch.prefix: row: expected one that is live, got " +
                              std::to_string(row));
      return search.prefix(row);
    });
  }

  // Candidates of all live rows under their rules: log_probs, tokens, perturbed [rows, width].
  template <typename T>
  py::tuple choose(const py::array_t<T, py::array::c_style>& logits) {
    check_logits(logits);
    const int64_t width = search_.width(), vocab = logits.shape(1);
    py::array_t<double> log_probs({rows(), width}), perturbed({rows(), width});
    py::array_t<int64_t> tokens({rows(), width});
    std::fill_n(log_probs.mutable_data(), log_probs.size(), -kInfinity);
    std::fill_n(perturbed.mutable_data(), perturbed.size(), -kInfinity);
    std::fill_n(tokens.mutable_data(), tokens.size(), 0);
    double *log_prob = log_probs.mutable_data(), *noisy = perturbed.mutable_data();
    int64_t* token = tokens.mutable_data();
    const T* read = logits.data();
    {
      const py::gil_scoped_release release;
      const std::lock_guard<std::mutex> lock(mutex_);
      if (largest_chosen_ >= vocab || smallest_chosen_ < 0)
        throw std::invalid_argument(
            "BeamSearch.choose: logits: expected a vocabulary with every token chosen so far");
      const bool is_shared = search_.rows() * vocab >= kWorthThreads;
#pragma omp parallel if (is_shared)
      {
        std::vector<T> own(vocab);
        RuleWorkspace<T> workspace;
#pragma omp for schedule(dynamic)
        for (int64_t row = 0; row < search_.rows(); ++row) {
          if (!search_.is_live(row)) continue;
          std::copy_n(read + row * vocab, vocab, own.data());
          const int64_t place = row * width;
          search_.choose(row, own.data(), vocab,
                         {log_prob + place, token + place, noisy + place, width}, &workspace);
        }
      }
    }
    return py::make_tuple(log_probs, tokens, perturbed);
  }

  py::tuple advance(const Array<double>& log_probs, const Array<int64_t>& tokens,
                    const std::optional<Array<double>>& perturbed,
                    const std::optional<Array<double>>& attention) {
    check_candidates(log_probs, tokens, perturbed);
    check_attention(attention);
    py::array_t<int64_t> next_tokens(rows()), parents(rows());
    const Candidates candidates{log_probs.data(),
                                tokens.data(),
                                log_probs.shape(1),
                                perturbed ? perturbed->data() : nullptr,
                                attention ? attention->data() : nullptr,
                                attention ? attention->shape(1) : 0};
    int64_t* token = next_tokens.mutable_data();
    int64_t* parent = parents.mutable_data();
    {
      const py::gil_scoped_release release;
      const std::lock_guard<std::mutex> lock(mutex_);
      if (search_.done())
        throw std::runtime_error(
            "BeamSearch.advance: expected a search that goes on, got one "
            "that is done");
      search_.advance(candidates, token, parent);
      if (may_have_rules_) remember_chosen(token);
    }
    return py::make_tuple(next_tokens, parents);
  }

  void stop(int64_t sentence) {
    check_sentence(sentence);
    const std::lock_guard<std::mutex> lock(mutex_);
    search_.stop(sentence);
  }

  // The hypothesis of each of a sentence's rows that has one.
  py::list live(int64_t sentence) {
    check_sentence(sentence);
    py::list result;
    for (const Hypothesis& each :
         read([&](const BeamSearch& search) { return search.live(sentence); }))
      result.append(to_tuple(each));
    return result;
  }

  py::list ended(int64_t sentence) {
    check_sentence(sentence);
    py::list result;
    for (const Hypothesis& each :
         read([&](const BeamSearch& search) { return search.hypotheses(sentence); }))
      result.append(to_tuple(each));
    return result;
  }

  py::tuple result() {
    const std::vector<std::vector<Hypothesis>> found = hypotheses();
    int64_t longest = 0, n_best = 1;
    const int64_t batch = found.size();
    for (int64_t b = 0; b < batch; ++b) {
      n_best = std::max(n_best, search_.options(b).n_best);
      for (const Hypothesis& hypothesis : found[b])
        longest = std::max<int64_t>(longest, hypothesis.tokens.size());
    }
    py::array_t<int64_t> tokens({batch, n_best, longest}), rows({batch, n_best, longest});
    py::array_t<double> token_log_probs({batch, n_best, longest});
    py::array_t<int64_t> lengths({batch, n_best}), reasons({batch, n_best});
    py::array_t<double> scores({batch, n_best}), log_probs({batch, n_best});
    std::fill_n(rows.mutable_data(), rows.size(), 0);
    std::fill_n(token_log_probs.mutable_data(), token_log_probs.size(), 0);
    for (int64_t b = 0; b < batch; ++b) {
      std::fill_n(tokens.mutable_data() + b * n_best * longest, n_best * longest,
                  search_.options(b).pad_id);
      for (int64_t n = 0; n < n_best; ++n) {
        const bool exists = n < static_cast<int64_t>(found[b].size());
        const Hypothesis each = exists ? found[b][n] : missing();
        const int64_t place = (b * n_best + n) * longest;
        std::copy(each.tokens.begin(), each.tokens.end(), tokens.mutable_data() + place);
        std::copy(each.rows.begin(), each.rows.end(), rows.mutable_data() + place);
        std::copy(each.token_log_probs.begin(), each.token_log_probs.end(),
                  token_log_probs.mutable_data() + place);
        lengths.mutable_at(b, n) = each.tokens.size();
        scores.mutable_at(b, n) = each.score;
        log_probs.mutable_at(b, n) = each.log_prob;
        reasons.mutable_at(b, n) = exists ? static_cast<int64_t>(each.reason) : -1;
      }
    }
    return py::make_tuple(tokens, lengths, scores, log_probs, token_log_probs, reasons, rows);
  }

 private:
  static Hypothesis missing() { return {{}, {}, {}, -kInfinity, -kInfinity, Reason::kEos}; }

  // Of what came from outside: rules index logits by it.
  void remember_chosen(const int64_t* tokens) {
    for (int64_t row = 0; row < search_.rows(); ++row) {
      if (!search_.is_live(row)) continue;
      smallest_chosen_ = std::min(smallest_chosen_, tokens[row]);
      largest_chosen_ = std::max(largest_chosen_, tokens[row]);
    }
  }

  void check_sentence(int64_t sentence) const {
    if (sentence < 0 || sentence >= search_.batch_size())
      throw py::value_error("BeamSearch: sentence: expected 0 to " +
                            std::to_string(search_.batch_size() - 1) + ", got " +
                            std::to_string(sentence));
  }

  void check_logits(const py::array& logits) const {
    if (logits.ndim() != 2 || logits.shape(0) != rows() ||
        logits.shape(1) <= search_.largest_token())
      throw py::value_error("BeamSearch.choose: logits: expected shape [" + std::to_string(rows()) +
                            ", V] with V above " + std::to_string(search_.largest_token()) +
                            ", got " + shape_of(logits));
  }

  void check_candidates(const Array<double>& log_probs, const Array<int64_t>& tokens,
                        const std::optional<Array<double>>& perturbed) {
    if (log_probs.ndim() != 2 || log_probs.shape(0) != rows() || log_probs.shape(1) < 1)
      throw py::value_error("BeamSearch.advance: log_probs: expected shape [" +
                            std::to_string(rows()) + ", width], got " + shape_of(log_probs));
    check_like("tokens", tokens, log_probs);
    if (perturbed) check_like("perturbed", *perturbed, log_probs);
    for (int64_t b = 0; b < search_.batch_size(); ++b)
      if (!perturbed && search_.options(b).sampling == Sampling::kGumbel && !is_done(b))
        throw py::value_error("BeamSearch.advance: perturbed: expected an array, got None");
  }

  void check_attention(const std::optional<Array<double>>& attention) const {
    int64_t needed = 0;
    bool is_needed = false;
    for (int64_t b = 0; b < search_.batch_size(); ++b) {
      if (search_.options(b).coverage_penalty == CoveragePenalty::kNone) continue;
      is_needed = true;
      needed = std::max(needed, search_.options(b).source_length);
    }
    if (!is_needed && !attention) return;
    if (!attention || attention->ndim() != 2 || attention->shape(0) != rows() ||
        attention->shape(1) < needed)
      throw py::value_error("BeamSearch.advance: attention: expected shape [" +
                            std::to_string(rows()) + ", at least " + std::to_string(needed) +
                            "], got " + (attention ? shape_of(*attention) : "None"));
  }

  static void check_like(const char* name, const py::array& array, const py::array& model) {
    if (array.ndim() != 2 || array.shape(0) != model.shape(0) || array.shape(1) != model.shape(1))
      throw py::value_error(std::string("BeamSearch.advance: ") + name + ": expected shape " +
                            shape_of(model) + " like log_probs, got " + shape_of(array));
  }

  std::vector<std::vector<Hypothesis>> hypotheses() {
    const py::gil_scoped_release release;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!search_.done())
      throw std::runtime_error(
          "BeamSearch.result: expected a search that is done, got one that "
          "goes on");
    std::vector<std::vector<Hypothesis>> found;
    for (int64_t b = 0; b < search_.batch_size(); ++b) found.push_back(search_.hypotheses(b));
    return found;
  }

  BeamSearch search_;
  std::mutex mutex_;
  const bool may_have_rules_ = search_.may_have_rules();
  int64_t smallest_chosen_ = 0, largest_chosen_ = 0;
};

std::unique_ptr<BoundBeamSearch> make(std::vector<SearchOptions> options) {
  constexpr int64_t kMaxRows = std::numeric_limits<int32_t>::max();
  int64_t rows = 0;
  for (const SearchOptions& each : options) rows += each.beam_size;
  if (options.empty()) throw py::value_error("BeamSearch: batch_size: expected at least 1, got 0");
  if (rows > kMaxRows)
    throw py::value_error("BeamSearch: beam_size: expected all of a batch below 2^31, got " +
                          std::to_string(rows));
  return std::make_unique<BoundBeamSearch>(std::move(options));
}

}  // namespace

SearchHandle search_of(const py::handle& object) {
  return py::cast<BoundBeamSearch&>(object).handle();
}

void bind_beam_search(py::module_& m) {
  py::class_<BoundBeamSearch>(m, "BeamSearch")
      .def(py::init(&make), py::arg("options"))
      .def_property_readonly("rows", &BoundBeamSearch::rows)
      .def_property_readonly("width", &BoundBeamSearch::width)
      .def_property_readonly("largest_token", &BoundBeamSearch::largest_token)
      .def_property_readonly("done", &BoundBeamSearch::done)
      .def_property_readonly("has_rules", &BoundBeamSearch::has_rules)
      .def_property_readonly("live_rows", &BoundBeamSearch::live_rows)
      .def("is_done", &BoundBeamSearch::is_done, py::arg("sentence"))
      .def("prefix", &BoundBeamSearch::prefix, py::arg("row"))
      .def("choose", &BoundBeamSearch::choose<float>, py::arg("logits").noconvert())
      .def("choose", &BoundBeamSearch::choose<double>, py::arg("logits").noconvert())
      .def("advance", &BoundBeamSearch::advance, py::arg("log_probs"), py::arg("tokens"),
           py::arg("perturbed") = py::none(), py::arg("attention") = py::none())
      .def("stop", &BoundBeamSearch::stop, py::arg("sentence"))
      .def("live", &BoundBeamSearch::live, py::arg("sentence"))
      .def("ended", &BoundBeamSearch::ended, py::arg("sentence"))
      .def("result", &BoundBeamSearch::result);
}

}  // namespace seq2seq_ext
