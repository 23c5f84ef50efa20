// BeamSearch for Python. Everything that could hurt the engine is checked here.
#include "beam_search.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <string>

namespace seq2seq_ext {

namespace py = pybind11;

namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

template <typename T>
void check(bool holds, const std::string& name, const std::string& expected, T got) {
  if (!holds)
    throw py::value_error("BeamSearch: " + name + ": expected " + expected + ", got " +
                          py::cast<std::string>(py::str(py::cast(got))));
}

LengthPenalty length_penalty_named(const std::string& name) {
  if (name == "none") return LengthPenalty::kNone;
  if (name == "power") return LengthPenalty::kPower;
  if (name == "gnmt") return LengthPenalty::kGnmt;
  throw py::value_error("BeamSearch: length_penalty: expected none, power or gnmt, got '" + name +
                        "'");
}

void check_options(int64_t batch_size, const BeamSearchOptions& options) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  check(batch_size >= 1 && batch_size <= kMax, "batch_size", "1 to 2^31 - 1", batch_size);
  check(options.beam_size >= 1 && options.beam_size <= kMax / batch_size, "beam_size",
        "at least 1, and batch_size * beam_size below 2^31", options.beam_size);
  check(options.n_best >= 1 && options.n_best <= options.beam_size, "n_best", "1 to beam_size",
        options.n_best);
  check(options.max_length >= 1, "max_length", "at least 1", options.max_length);
  check(options.min_length >= 0 && options.min_length <= options.max_length, "min_length",
        "0 to max_length", options.min_length);
  check(std::isfinite(options.alpha), "alpha", "a finite number", options.alpha);
}

// The lock lets threads of Python share an object: without the GIL nothing else does.
class BoundBeamSearch {
 public:
  BoundBeamSearch(int64_t batch_size, const BeamSearchOptions& options)
      : search_(batch_size, options) {}

  SearchHandle handle() { return {&search_, &mutex_}; }
  int64_t rows() const { return search_.rows(); }
  int64_t width() const { return search_.width(); }

  bool done() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return search_.done();
  }

  py::tuple advance(const Array<double>& log_probs, const Array<int64_t>& tokens) {
    check_candidates(log_probs, tokens);
    py::array_t<int64_t> next_tokens(rows()), parents(rows());
    const Candidates candidates{log_probs.data(), tokens.data(), log_probs.shape(1)};
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
    }
    return py::make_tuple(next_tokens, parents);
  }

  py::tuple result() {
    const std::vector<std::vector<Hypothesis>> found = hypotheses();
    size_t longest = 0;
    for (const auto& sentence : found)
      for (const Hypothesis& hypothesis : sentence)
        longest = std::max(longest, hypothesis.tokens.size());
    const int64_t n_best = search_.options().n_best, batch = search_.batch_size();
    py::array_t<int64_t> tokens({batch, n_best, static_cast<int64_t>(longest)});
    py::array_t<int64_t> lengths({batch, n_best});
    py::array_t<double> scores({batch, n_best}), log_probs({batch, n_best});
    std::fill_n(tokens.mutable_data(), tokens.size(), search_.options().pad_id);
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t n = 0; n < n_best; ++n) {
        const bool exists = n < static_cast<int64_t>(found[b].size());
        const Hypothesis hypothesis = exists ? found[b][n] : missing();
        std::copy(hypothesis.tokens.begin(), hypothesis.tokens.end(),
                  tokens.mutable_data() + (b * n_best + n) * longest);
        lengths.mutable_at(b, n) = hypothesis.tokens.size();
        scores.mutable_at(b, n) = hypothesis.score;
        log_probs.mutable_at(b, n) = hypothesis.log_prob;
      }
    }
    return py::make_tuple(tokens, lengths, scores, log_probs);
  }

 private:
  static Hypothesis missing() {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    return {{}, -kInfinity, -kInfinity};
  }

  void check_candidates(const Array<double>& log_probs, const Array<int64_t>& tokens) const {
    if (log_probs.ndim() != 2 || log_probs.shape(0) != rows() || log_probs.shape(1) < 1)
      throw py::value_error("BeamSearch.advance: log_probs: expected shape [" +
                            std::to_string(rows()) + ", width], got " + shape_of(log_probs));
    if (tokens.ndim() != 2 || tokens.shape(0) != log_probs.shape(0) ||
        tokens.shape(1) != log_probs.shape(1))
      throw py::value_error("BeamSearch.advance: tokens: expected shape " + shape_of(log_probs) +
                            " like log_probs, got " + shape_of(tokens));
  }

  static std::string shape_of(const py::array& array) {
    return py::cast<std::string>(py::str(array.attr("shape")));
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
};

std::unique_ptr<BoundBeamSearch> make(int64_t batch_size, int64_t beam_size, int64_t n_best,
                                      int64_t eos_id, int64_t pad_id, int64_t max_length,
                                      int64_t min_length, const std::string& length_penalty,
                                      double alpha) {
  const BeamSearchOptions options{beam_size,
                                  n_best,
                                  eos_id,
                                  pad_id,
                                  max_length,
                                  min_length,
                                  length_penalty_named(length_penalty),
                                  alpha};
  check_options(batch_size, options);
  return std::make_unique<BoundBeamSearch>(batch_size, options);
}

}  // namespace

SearchHandle search_of(const py::handle& object) {
  return py::cast<BoundBeamSearch&>(object).handle();
}

void bind_beam_search(py::module_& m) {
  py::class_<BoundBeamSearch>(m, "BeamSearch")
      .def(py::init(&make), py::arg("batch_size"), py::kw_only(), py::arg("beam_size"),
           py::arg("n_best"), py::arg("eos_id"), py::arg("pad_id"), py::arg("max_length"),
           py::arg("min_length"), py::arg("length_penalty"), py::arg("alpha"))
      .def_property_readonly("rows", &BoundBeamSearch::rows)
      .def_property_readonly("width", &BoundBeamSearch::width)
      .def_property_readonly("done", &BoundBeamSearch::done)
      .def("advance", &BoundBeamSearch::advance, py::arg("log_probs"), py::arg("tokens"))
      .def("result", &BoundBeamSearch::result);
}

}  // namespace seq2seq_ext
