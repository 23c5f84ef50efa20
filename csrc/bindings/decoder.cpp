// The native decoder for Python. Everything that could hurt the kernels is checked here; a model
// or its config is checked where it is made.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "beam_search.h"
#include "kernels/generation.h"
#include "kernels/huge_pages.h"
#include "kernels/run_team.h"
#include "signals.h"

namespace seq2seq_ext {

namespace py = pybind11;

namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

void check(bool holds, const std::string& name, const std::string& expected) {
  if (!holds) throw py::value_error("Decoder: " + name + ": expected " + expected);
}

template <typename T>
void check_shape(const char* name, const Array<T>& array, const std::vector<int64_t>& shape) {
  bool fits = array.ndim() == static_cast<int64_t>(shape.size());
  std::string text;
  for (size_t i = 0; i < shape.size(); ++i) {
    fits = fits && array.shape(i) == shape[i];
    text += (i ? ", " : "") + std::to_string(shape[i]);
  }
  check(fits, name,
        "shape (" + text + "), got " + py::cast<std::string>(py::str(array.attr("shape"))));
}

// A packed weight's bytes, its inputs and outputs, its bias.
using Linear = std::tuple<Array<uint8_t>, int64_t, int64_t, std::optional<Array<float>>>;
using Layer = std::tuple<Array<uint8_t>, int64_t, int64_t>;

const std::map<std::string, WeightType> kWeightTypeNames = {{"float32", WeightType::kFloat32},
                                                            {"bfloat16", WeightType::kBfloat16},
                                                            {"int8", WeightType::kInt8}};
const std::map<std::string, CellKind> kCells = {
    {"lstm", CellKind::kLstm}, {"gru", CellKind::kGru}, {"rnn", CellKind::kRnnTanh}};
const std::map<std::string, AttentionKind> kAttentions = {{"none", AttentionKind::kNone},
                                                          {"additive", AttentionKind::kAdditive},
                                                          {"dot", AttentionKind::kDot}};

template <typename T>
T named(const char* what, const std::map<std::string, T>& names, const std::string& name) {
  const auto found = names.find(name);
  check(found != names.end(), what, "a known name, got " + name);
  return found->second;
}

// What Python hands over. Packed weights are copied, the rest is kept alive.
struct Weights {
  Array<float> embedding;
  std::vector<Layer> layers;
  std::optional<Linear> query;
  std::optional<Array<float>> v;
  Linear combine;
  std::optional<Linear> projection;
  Linear output;

  int64_t packed_bytes() const {
    int64_t total = 0;
    const auto add = [&](const Array<uint8_t>& packed) {
      total += HugePages::lines(packed.size());
    };
    for (const Layer& layer : layers) add(std::get<0>(layer));
    for (const Linear* linear : {&combine, &output}) add(std::get<0>(*linear));
    for (const auto* linear : {&query, &projection})
      if (*linear) add(std::get<0>(**linear));
    return total;
  }
};

class BoundDecoder {
 public:
  BoundDecoder(const std::string& weight_type, const std::string& cell,
               const std::string& attention, bool input_feeding, float scale, Weights weights)
      : weights_(std::move(weights)), packed_(weights_.packed_bytes()) {
    m_.kernels = kernels<float>();
    m_.weight_type = named("weight_type", kWeightTypeNames, weight_type);
    check(static_cast<int>(m_.weight_type) < kWeightTypes<float>, "weight_type",
          "one that this build has, got " + weight_type);
    m_.cell = named("cell", kCells, cell);
    m_.attention = named("attention", kAttentions, attention);
    m_.input_feeding = input_feeding;
    m_.scale = scale;
    check(weights_.embedding.ndim() == 2, "embedding", "2 dimensions");
    m_.vocabulary = weights_.embedding.shape(0);
    m_.embedding_size = weights_.embedding.shape(1);
    m_.embedding = weights_.embedding.data();
    check(!weights_.layers.empty(), "layers", "at least one");
    m_.hidden = std::get<2>(weights_.layers[0]);
    set_layers();
    m_.combine = linear("combine", weights_.combine);
    m_.memory = m_.attention == AttentionKind::kNone ? 0 : m_.combine.inputs - m_.hidden;
    check(m_.memory >= 0, "combine", "at least hidden inputs");
    check_sizes("combine", m_.combine, m_.memory + m_.hidden, m_.hidden);
    set_attention();
    const int64_t vector = weights_.projection ? m_.embedding_size : m_.hidden;
    if (weights_.projection) {
      m_.projection = linear("projection", *weights_.projection);
      check_sizes("projection", m_.projection, m_.hidden, vector);
    }
    m_.output = linear("output", weights_.output);
    check_sizes("output", m_.output, vector, m_.vocabulary);
  }

  int64_t state_parts() const { return m_.state_parts(); }

  // The attention's weights [B, n_best, L, S] of the hypotheses, or None. Runs the search from its
  // begin to its end, unless a signal's handler raises.
  py::object generate(const py::handle& search, const Array<float>& memory,
                      const std::optional<Array<float>>& keys, const Array<int64_t>& lengths,
                      const Array<float>& state, int threads) {
    const SearchHandle handle = search_of(search);
    const DecoderSources sources = check_sources(memory, keys, lengths);
    check_search(*handle.search, sources);
    check_shape("state", state, {m_.state_parts(), sources.count, m_.hidden});
    check(threads >= 1, "threads", "at least 1");
    Interrupt interrupt(signal_raised);
    const GenerationInputs inputs{sources, state.data(), &interrupt};
    std::unique_ptr<Generation> generation = take_idle();
    bool finished;
    {
      const py::gil_scoped_release release;
      const std::lock_guard<std::mutex> lock(*handle.mutex);
      finished = run(*generation, inputs, handle.search, threads);
    }
    if (!finished) throw_signal();
    const py::object result = attention_of(*generation, *handle.search, sources.length);
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(generation));
    return result;
  }

  // One step: logits [N, V], state [parts, N, H], weights [N, S] or None.
  py::tuple step(const Array<int64_t>& tokens, const Array<float>& state,
                 const Array<float>& memory, const std::optional<Array<float>>& keys,
                 const Array<int64_t>& lengths, int threads) {
    const DecoderSources sources = check_sources(memory, keys, lengths);
    check(tokens.ndim() == 1 && tokens.size() > 0 && tokens.size() % sources.count == 0, "tokens",
          "a multiple of " + std::to_string(sources.count) + " tokens");
    const int64_t rows = tokens.size();
    for (int64_t i = 0; i < rows; ++i)
      check(tokens.data()[i] >= 0 && tokens.data()[i] < m_.vocabulary, "tokens",
            "ids below " + std::to_string(m_.vocabulary) + ", got " +
                std::to_string(tokens.data()[i]));
    check_shape("state", state, {m_.state_parts(), rows, m_.hidden});
    check(threads >= 1, "threads", "at least 1");
    const bool attends = m_.attention != AttentionKind::kNone;
    Array<float> logits({rows, m_.vocabulary}), after({m_.state_parts(), rows, m_.hidden}),
        weights({attends ? rows : 0, sources.length});
    std::vector<int64_t> parents(rows);
    std::vector<SourceRows> groups;
    for (int64_t i = 0; i < rows; ++i) parents[i] = i;
    const int64_t beams = rows / sources.count;
    for (int64_t b = 0; b < sources.count; ++b) groups.push_back({b, b * beams, (b + 1) * beams});
    const DecoderStep step{&sources,
                           rows,
                           tokens.data(),
                           parents.data(),
                           &groups,
                           state.data(),
                           rows,
                           after.mutable_data(),
                           rows,
                           weights.mutable_data(),
                           logits.mutable_data(),
                           nullptr,
                           nullptr,
                           0};
    {
      const py::gil_scoped_release release;
      const int wanted = Generation::team_size(m_, rows, threads);
      DecoderWorkspace workspace;
      workspace.reserve(m_, rows, sources.length, 0, wanted);
      run_members(wanted, [&](const Team& team) { decoder_step(m_, step, workspace, team); });
    }
    return py::make_tuple(logits, after, attends ? py::object(weights) : py::none());
  }

 private:
  const char* keep(const Array<uint8_t>& packed) {
    char* const kept = packed_.take(packed.size());
    std::copy_n(packed.data(), packed.size(), kept);
    return kept;
  }

  PackedLinear linear(const char* name, const Linear& given) {
    const auto& [packed, inputs, outputs, bias] = given;
    check(inputs > 0 && outputs > 0, name, "inputs and outputs");
    const GemmKernels<float>& gemm = m_.gemm();
    const int64_t panels = (outputs + gemm.panel_width - 1) / gemm.panel_width;
    check(packed.size() == panels * gemm.panel_bytes(inputs), name,
          std::to_string(panels * gemm.panel_bytes(inputs)) + " bytes of packed weights, got " +
              std::to_string(packed.size()));
    if (bias) check_shape(name, *bias, {outputs});
    return {inputs, outputs, keep(packed), bias ? bias->data() : nullptr};
  }

  static void check_sizes(const char* name, const PackedLinear& layer, int64_t inputs,
                          int64_t outputs) {
    check(layer.inputs == inputs && layer.outputs == outputs, name,
          std::to_string(inputs) + " inputs and " + std::to_string(outputs) + " outputs");
  }

  void set_layers() {
    int64_t expected = m_.embedding_size + (m_.input_feeding ? m_.hidden : 0);
    for (const auto& [packed, input, hidden] : weights_.layers) {
      check(input == expected && hidden == m_.hidden && hidden > 0, "layers",
            std::to_string(expected) + " inputs and " + std::to_string(m_.hidden) + " units");
      const RecurrentSizes sizes{input, hidden, hidden, false};
      check(packed.size() == m_.cell_kernels().packed_forward_size(sizes), "layers",
            "weights packed for the instruction set in force");
      m_.layers.push_back({sizes, keep(packed)});
      expected = m_.hidden;
    }
  }

  void set_attention() {
    m_.attention_size = m_.hidden;
    m_.v = nullptr;
    if (m_.attention != AttentionKind::kAdditive) return;
    check(weights_.query && weights_.v, "query, v", "both with additive attention");
    m_.query = linear("query", *weights_.query);
    m_.attention_size = m_.query.outputs;
    check_sizes("query", m_.query, m_.hidden, m_.attention_size);
    check_shape("v", *weights_.v, {m_.attention_size});
    m_.v = weights_.v->data();
  }

  DecoderSources check_sources(const Array<float>& memory, const std::optional<Array<float>>& keys,
                               const Array<int64_t>& lengths) const {
    check(memory.ndim() == 3 && memory.shape(0) > 0, "memory",
          "3 dimensions and at least 1 source");
    const int64_t count = memory.shape(0), length = memory.shape(1);
    const bool attends = m_.attention != AttentionKind::kNone;
    check(keys.has_value() == attends, "keys", attends ? "an array" : "None");
    if (attends) {
      check_shape("memory", memory, {count, length, m_.memory});
      check_shape("keys", *keys, {count, length, m_.attention_size});
    }
    check_shape("lengths", lengths, {count});
    for (int64_t b = 0; b < count; ++b)
      check(lengths.data()[b] >= 0 && lengths.data()[b] <= length, "lengths",
            "0 to " + std::to_string(length) + ", got " + std::to_string(lengths.data()[b]));
    return {count, length, lengths.data(), memory.data(), attends ? keys->data() : nullptr};
  }

  void check_search(const BeamSearch& search, const DecoderSources& sources) const {
    check(search.batch_size() == sources.count, "search",
          std::to_string(sources.count) + " sentences like memory");
    check(search.largest_token() < m_.vocabulary, "search",
          "tokens below " + std::to_string(m_.vocabulary) + ", got " +
              std::to_string(search.largest_token()));
    for (int64_t b = 0; b < sources.count; ++b) {
      const SearchOptions& options = search.options(b);
      check(options.bos_id < m_.vocabulary, "search",
            "a bos_id below " + std::to_string(m_.vocabulary) + ", got " +
                std::to_string(options.bos_id));
      if (options.coverage_penalty == CoveragePenalty::kNone) continue;
      check(m_.attention != AttentionKind::kNone, "search",
            "no coverage penalty without attention");
      check(options.source_length <= sources.length, "search",
            "sources of at most " + std::to_string(sources.length) + " tokens, got " +
                std::to_string(options.source_length));
    }
  }

  template <class Body>
  static void run_members(int wanted, const Body& body) {
    std::optional<Barrier> barrier;
    run_team(
        wanted, [&](int size) { barrier.emplace(size); },
        [&](int index) { body(Team{index, barrier->size(), &*barrier}); });
  }

  bool run(Generation& generation, const GenerationInputs& inputs, BeamSearch* search,
           int threads) const {
    if (search->has_begun())
      throw std::runtime_error("Decoder: search: expected one that has not begun");
    // Here, as nothing may throw among threads; that fewer of them may come does no harm.
    const int wanted = Generation::team_size(m_, search->rows(), threads);
    generation.prepare(m_, inputs, search, wanted);
    run_members(wanted, [&](const Team& team) { generation.run(team); });
    return generation.finish();
  }

  std::unique_ptr<Generation> take_idle() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (idle_.empty()) return std::make_unique<Generation>();
    std::unique_ptr<Generation> generation = std::move(idle_.back());
    idle_.pop_back();
    return generation;
  }

  py::object attention_of(const Generation& generation, const BeamSearch& search,
                          int64_t length) const {
    if (m_.attention == AttentionKind::kNone) return py::none();
    std::vector<std::vector<Hypothesis>> found;
    int64_t longest = 0, n_best = 1;
    for (int64_t b = 0; b < search.batch_size(); ++b) {
      n_best = std::max(n_best, search.options(b).n_best);
      found.push_back(search.hypotheses(b));
      for (const Hypothesis& each : found.back())
        longest = std::max<int64_t>(longest, each.tokens.size());
    }
    Array<float> attention({search.batch_size(), n_best, longest, length});
    std::fill_n(attention.mutable_data(), attention.size(), 0.0f);
    for (int64_t b = 0; b < search.batch_size(); ++b)
      for (size_t n = 0; n < found[b].size(); ++n)
        generation.follow(found[b][n],
                          attention.mutable_data() + (b * n_best + n) * longest * length);
    return attention;
  }

  const Weights weights_;
  HugePages packed_;
  DecoderModel m_{};
  std::mutex mutex_;
  std::vector<std::unique_ptr<Generation>> idle_;
};

}  // namespace

void bind_decoder(py::module_& m) {
  py::class_<BoundDecoder>(m, "Decoder")
      .def(py::init([](const std::string& weight_type, const std::string& cell,
                       const std::string& attention, bool input_feeding, float scale,
                       Array<float> embedding, std::vector<Layer> layers,
                       std::optional<Linear> query, std::optional<Array<float>> v, Linear combine,
                       std::optional<Linear> projection, Linear output) {
             return std::make_unique<BoundDecoder>(
                 weight_type, cell, attention, input_feeding, scale,
                 Weights{std::move(embedding), std::move(layers), std::move(query), std::move(v),
                         std::move(combine), std::move(projection), std::move(output)});
           }),
           py::kw_only(), py::arg("weight_type"), py::arg("cell"), py::arg("attention"),
           py::arg("input_feeding"), py::arg("scale"), py::arg("embedding"), py::arg("layers"),
           py::arg("query"), py::arg("v"), py::arg("combine"), py::arg("projection"),
           py::arg("output"))
      .def_property_readonly("state_parts", &BoundDecoder::state_parts)
      .def("generate", &BoundDecoder::generate, py::arg("search"), py::kw_only(), py::arg("memory"),
           py::arg("keys"), py::arg("lengths"), py::arg("state"), py::arg("threads"))
      .def("step", &BoundDecoder::step, py::arg("tokens"), py::arg("state"), py::kw_only(),
           py::arg("memory"), py::arg("keys"), py::arg("lengths"), py::arg("threads"));
}

}  // namespace seq2seq_ext
