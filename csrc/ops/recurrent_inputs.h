// The checked inputs of a recurrent layer: its weights by direction, its rows by length.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "check.h"
#include "recurrent.h"

namespace seq2seq_ext {

struct Sizes : RecurrentSizes {
  int64_t steps, batch, directions, gates;
};

// How an op refuses types that its device has no kernels for.
using CheckType = void (*)(const char* op, const char* name, const at::Tensor&);

// The flat list of weights, by direction.
class Weights {
 public:
  Weights(const char* op, at::TensorList weights, bool has_biases, int64_t gates, bool can_project,
          CheckType check_type = check_floating)
      : gates_(gates), has_biases_(has_biases) {
    const int64_t count = weights.size(), plain = has_biases ? 4 : 2;
    projected_ = count == plain + 1 || count == 2 * (plain + 1);
    per_direction_ = plain + projected_;
    TORCH_CHECK_VALUE(count > 0 && count % per_direction_ == 0 && count / per_direction_ <= 2 &&
                          (can_project || !projected_),
                      op, ": weights: expected ", plain,
                      can_project ? " (or one more, weight_hr)" : "",
                      " tensors for each of 1 or 2 directions, got ", count);
    for (const at::Tensor& w : weights) {
      check_type(op, "weights", w);
      check_like(op, "weights", w, weights[0], "weights[0]");
      tensors_.push_back(w.contiguous());
    }
    check_shapes(op);
  }

  int64_t directions() const { return tensors_.size() / per_direction_; }
  const at::Tensor& weight_ih(int64_t d) const { return tensors_[d * per_direction_]; }
  const at::Tensor& weight_hh(int64_t d) const { return tensors_[d * per_direction_ + 1]; }

  RecurrentSizes sizes() const {
    return {weight_ih(0).size(1), weight_ih(0).size(0) / gates_, weight_hh(0).size(1), projected_};
  }

  template <typename T>
  RecurrentWeights<T> direction(int64_t d) const {
    const auto at = [&](int64_t i) {
      return static_cast<const T*>(tensors_[d * per_direction_ + i].const_data_ptr());
    };
    return {at(0), at(1), has_biases_ ? at(2) : nullptr, has_biases_ ? at(3) : nullptr,
            projected_ ? at(per_direction_ - 1) : nullptr};
  }

 private:
  void check_shapes(const char* op) const {
    for (int64_t i = 0; i < 2; ++i) check_dim(op, "weights", tensors_[i], 2, "[gates*H, features]");
    TORCH_CHECK_VALUE(weight_ih(0).size(0) % gates_ == 0 && weight_ih(0).size(0) > 0, op,
                      ": weights: expected weight_ih with ", gates_, "*H rows, got shape ",
                      weight_ih(0).sizes());
    const RecurrentSizes s = sizes();
    const int64_t rows = gates_ * s.hidden;
    TORCH_CHECK_VALUE(projected_ || s.output == s.hidden, op, ": weights: expected weight_hh [",
                      rows, ", ", s.hidden, "], got ", weight_hh(0).sizes());
    for (int64_t d = 0; d < directions(); ++d) {
      check_shape(op, "weights (weight_ih)", weight_ih(d), {rows, s.input});
      check_shape(op, "weights (weight_hh)", weight_hh(d), {rows, s.output});
      for (int64_t b = 2; has_biases_ && b < 4; ++b)
        check_shape(op, "weights (bias)", tensors_[d * per_direction_ + b], {rows});
      if (projected_)
        check_shape(op, "weights (weight_hr)", tensors_[(d + 1) * per_direction_ - 1],
                    {s.output, s.hidden});
    }
  }

  int64_t gates_, per_direction_;
  bool has_biases_, projected_;
  std::vector<at::Tensor> tensors_;
};

// Rows in order of falling length, and how many run at each step.
class Ragged {
 public:
  Ragged(const std::optional<at::Tensor>& lengths, int64_t batch, int64_t steps)
      : rows_(batch), lengths_(batch, steps) {
    std::iota(rows_.begin(), rows_.end(), 0);
    if (lengths) {
      const int64_t* data = lengths->const_data_ptr<int64_t>();
      std::stable_sort(rows_.begin(), rows_.end(),
                       [data](int64_t a, int64_t b) { return data[a] > data[b]; });
      for (int64_t b = 0; b < batch; ++b) lengths_[b] = data[rows_[b]];
    }
    const int64_t longest = batch ? lengths_[0] : 0;
    active_.resize(longest);
    offsets_.assign(longest + 1, 0);
    int64_t running = batch;
    for (int64_t s = 0; s < longest; ++s) {
      while (lengths_[running - 1] <= s) --running;
      active_[s] = running;
      offsets_[s + 1] = offsets_[s] + running;
    }
  }

  RaggedBatch view() const {
    return {static_cast<int64_t>(rows_.size()),
            static_cast<int64_t>(active_.size()),
            rows_.data(),
            lengths_.data(),
            active_.data(),
            offsets_.data()};
  }
  int64_t total() const { return offsets_.back(); }
  bool is_ragged(int64_t steps) const {
    return total() != steps * static_cast<int64_t>(rows_.size());
  }

 private:
  std::vector<int64_t> rows_, lengths_, active_, offsets_;
};

inline CellKind rnn_cell_kind(const char* op, c10::string_view nonlinearity) {
  TORCH_CHECK_VALUE(nonlinearity == "tanh" || nonlinearity == "relu", op,
                    ": nonlinearity: expected 'tanh' or 'relu', got '", nonlinearity, "'");
  return nonlinearity == "tanh" ? CellKind::kRnnTanh : CellKind::kRnnRelu;
}

inline Sizes check_inputs(const LayerInputs& in, const Weights& weights, int64_t gates,
                          CheckType check_type = check_floating) {
  check_type(in.op, "input", in.input);
  check_dim(in.op, "input", in.input, 3, "[T, B, I]");
  check_like(in.op, "weights", weights.weight_ih(0), in.input, "input");
  check_like(in.op, "h_0", in.h_0, in.input, "input");
  Sizes s{weights.sizes(), in.input.size(0), in.input.size(1), weights.directions(), gates};
  TORCH_CHECK_VALUE(in.input.size(2) == s.input, in.op, ": input: expected ", s.input,
                    " features (input.size(-1)), got ", in.input.size(2));
  check_shape(in.op, "h_0", in.h_0, {s.directions, s.batch, s.output});
  if (in.cell == CellKind::kLstm) {
    check_like(in.op, "c_0", in.c_0, in.input, "input");
    check_shape(in.op, "c_0", in.c_0, {s.directions, s.batch, s.hidden});
  }
  return s;
}

inline std::optional<at::Tensor> check_row_lengths(const LayerInputs& in, const Sizes& s) {
  if (!in.lengths) return std::nullopt;
  return check_lengths(in.op, "lengths", *in.lengths, s.batch, s.steps);
}

}  // namespace seq2seq_ext
