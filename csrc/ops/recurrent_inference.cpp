#include "recurrent_inference.h"

#include <ATen/EmptyTensor.h>
#include <ATen/Functions.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>

#include "kernels/isa.h"
#include "packed.h"

namespace seq2seq_ext {

namespace {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;
using Results = std::vector<Tensor>;

// Data and nothing more: no subclass, trace or transform to keep informed.
bool is_data(const Tensor& t) {
  constexpr c10::DispatchKeySet kPlain({c10::DispatchKey::CPU, c10::DispatchKey::AutogradCPU,
                                        c10::DispatchKey::AutocastCPU,
                                        c10::DispatchKey::ADInplaceOrView});
  return t.defined() && kPlain.has_all(t.key_set()) && !t._fw_grad(0).defined();
}

bool wants_gradient(const Tensor& t) { return at::GradMode::is_enabled() && t.requires_grad(); }
bool is_plain(const Tensor& t) { return is_data(t) && !wants_gradient(t); }

bool is_state(const MaybeTensor& t, const Tensor& input, at::IntArrayRef shape) {
  return !t || (is_plain(*t) && t->scalar_type() == input.scalar_type() && t->sizes() == shape);
}

bool is_input(const Tensor& t, int64_t dim, const RecurrentModule& m) {
  return is_plain(t) && t.scalar_type() == (m.is_double ? at::kDouble : at::kFloat) &&
         t.dim() == dim && t.size(-1) == m.sizes[0].input;
}

bool are_lengths(const MaybeTensor& t, int64_t batch, int64_t steps) {
  if (!t) return true;
  if (!is_plain(*t) || t->scalar_type() != at::kLong || t->sizes() != at::IntArrayRef(batch))
    return false;
  const int64_t* data = t->const_data_ptr<int64_t>();
  for (int64_t b = 0; b < batch; ++b)
    if (data[b * t->stride(0)] < 0 || data[b * t->stride(0)] > steps) return false;
  return true;
}

template <typename T>
bool read_layers(RecurrentModule& m, at::TensorList weights, at::TensorList packed) {
  const RecurrentKernels<T>& k = kernels<T>().cell(m.cell, m.type);
  const int64_t per_layer = weights.size() / m.layers, per_direction = per_layer / m.directions;
  const bool projected = per_direction % 2;
  if (per_direction * m.directions != per_layer || per_direction < 2 || per_direction > 5 ||
      (projected && !k.has_cell))
    return false;
  for (int64_t layer = 0; layer < m.layers; ++layer) {
    const Tensor &ih = weights[layer * per_layer], &hh = weights[layer * per_layer + 1];
    if (ih.dim() != 2 || hh.dim() != 2) return false;
    const RecurrentSizes s{ih.size(1), ih.size(0) / k.gates, hh.size(1), projected};
    const RecurrentSizes& first = m.sizes.empty() ? s : m.sizes[0];
    const int64_t below = m.sizes.empty() ? s.input : m.directions * s.output;
    const Tensor& p = packed[layer];
    if (s.hidden < 1 || s.output < 1 || s.hidden != first.hidden || s.output != first.output ||
        (!projected && s.output != s.hidden) || s.input != below || p.dim() != 2 ||
        !p.is_contiguous() || p.scalar_type() != packed[0].scalar_type() ||
        p.size(0) != m.directions ||
        static_cast<int64_t>(p.nbytes()) != m.directions * k.packed_forward_size(s))
      return false;
    m.sizes.push_back(s);
    m.packed.push_back(&p);
  }
  return true;
}

bool read_module(RecurrentModule& m, c10::string_view cell, at::TensorList weights,
                 at::TensorList packed) {
  m.layers = packed.size();
  if (!is_mode(cell, m.cell) || packed.empty() || weights.empty() ||
      weights.size() % packed.size() != 0)
    return false;
  for (const at::TensorList& list : {weights, packed})
    for (const Tensor& t : list)
      if (!is_data(t)) return false;
  const at::ScalarType own = weights[0].scalar_type(), stored = packed[0].scalar_type();
  m.is_double = own == at::kDouble;
  m.type = weight_type(stored);
  m.directions = packed[0].dim() == 2 ? packed[0].size(0) : 0;
  return (own == at::kFloat || own == at::kDouble) && is_storage_of(own, stored) &&
         (m.directions == 1 || m.directions == 2) &&
         (m.is_double ? read_layers<double>(m, weights, packed)
                      : read_layers<float>(m, weights, packed));
}

const void* data(const MaybeTensor& t) { return t ? t->const_data_ptr() : nullptr; }
MaybeTensor dense(const MaybeTensor& t) { return t ? MaybeTensor(t->contiguous()) : t; }

// Without the dispatcher, which takes longer than the memory.
Tensor empty(at::IntArrayRef shape, const Tensor& like) {
  return at::detail::empty_cpu(shape, like.scalar_type());
}

// Both states or none.
bool are_complete(const RecurrentModule& m, const MaybeTensor& h_0, const MaybeTensor& c_0) {
  return m.cell == CellKind::kLstm ? h_0.has_value() == c_0.has_value() : !c_0.has_value();
}

}  // namespace

RecurrentInference::RecurrentInference(c10::string_view cell, std::vector<Tensor> weights,
                                       int64_t state, std::vector<Tensor> packed)
    : weights_(std::move(weights)), packed_(std::move(packed)), state_(state) {
  is_readable_ = read_module(module_, cell, weights_, packed_);
}

bool RecurrentInference::may_run() const {
  return is_readable_ && !at::autocast::is_autocast_enabled(at::kCPU) &&
         std::none_of(weights_.begin(), weights_.end(), wants_gradient) &&
         weights_state(weights_) == state_;
}

Results RecurrentInference::step(const Tensor& any_input, const MaybeTensor& any_h,
                                 const MaybeTensor& any_c) const {
  const RecurrentModule& m = module_;
  if (!may_run() || m.layers != 1 || m.directions != 1) return {};
  const RecurrentSizes& s = m.sizes[0];
  if (s.projected || !is_input(any_input, 2, m)) return {};
  const int64_t batch = any_input.size(0);
  const std::array<int64_t, 2> shape{batch, s.hidden};
  if (!is_state(any_h, any_input, shape) || !is_state(any_c, any_input, shape) ||
      !are_complete(m, any_h, any_c))
    return {};
  const Tensor input = dense_rows(any_input);
  const MaybeTensor h = dense(any_h), c = dense(any_c);
  Results results(m.cell == CellKind::kLstm ? 2 : 1);
  for (Tensor& t : results) t = empty(shape, input);
  const Strided output = strided(results[0], 0, s.hidden);
  run_module(m, {Ragged(std::nullopt, batch, 1), 1, strided(input, 0, input.stride(0)), data(h),
                 data(c), output, output.data, results.back().data_ptr()});
  return results;
}

Results RecurrentInference::layers(const Tensor& any_input, const MaybeTensor& any_lengths,
                                   const MaybeTensor& any_h, const MaybeTensor& any_c,
                                   bool batch_first) const {
  const RecurrentModule& m = module_;
  if (!may_run() || !is_input(any_input, 3, m)) return {};
  const RecurrentSizes& s = m.sizes[0];
  const Tensor input = dense_rows(batch_first ? any_input.transpose(0, 1) : any_input);
  const int64_t steps = input.size(0), batch = input.size(1), slabs = m.layers * m.directions;
  const std::array<int64_t, 3> shape{steps, batch, m.directions * s.output};
  const std::array<int64_t, 3> h_shape{slabs, batch, s.output}, c_shape{slabs, batch, s.hidden};
  if (steps == 0 || !is_state(any_h, input, h_shape) || !is_state(any_c, input, c_shape) ||
      !are_complete(m, any_h, any_c) || !are_lengths(any_lengths, batch, steps))
    return {};
  const MaybeTensor h = dense(any_h), c = dense(any_c), lengths = dense(any_lengths);
  const Ragged ragged(lengths, batch, steps);
  const Tensor output = empty(shape, input);
  if (ragged.is_ragged(steps)) output.zero_();
  Results results{batch_first ? output.transpose(0, 1) : output, empty(h_shape, input)};
  if (m.cell == CellKind::kLstm) results.push_back(empty(c_shape, input));
  run_module(m, {ragged, steps, strided(input, input.stride(0), input.stride(1)), data(h), data(c),
                 strided(output, output.stride(0), output.stride(1)), results[1].data_ptr(),
                 results.back().data_ptr()});
  return results;
}

}  // namespace seq2seq_ext
