// A whole recurrent module in one call where no gradient is wanted: what surrounds the kernels of
// one step would cost as much as they do.
//
// Both ops answer nothing where the module must go the general way: gradients, autocast, tensors
// that are more than their data, weights that changed since they were packed, and arguments that
// are wrong, which the general way refuses by name. Results have the same bits either way.
#include <ATen/Functions.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <array>
#include <vector>

#include "kernels/isa.h"
#include "packed.h"
#include "recurrent.h"
#include "recurrent_team.h"

namespace seq2seq_ext {

namespace {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;
using Results = std::vector<Tensor>;

// A module's weights and how to read them.
struct Module {
  CellKind cell;
  int64_t layers, directions;
  bool is_double;
  WeightType type;
  std::vector<RecurrentSizes> sizes;  // [L]
  std::vector<const Tensor*> packed;  // [L]
};

// Rows of features at (time, batch), of the module's type.
struct Strided {
  void* data;
  int64_t time_stride, batch_stride;

  template <typename T>
  Sequence<T> as() const {
    return {static_cast<T*>(data), time_stride, batch_stride};
  }
};

// What a call computes on. Initial states that are null are zero.
struct Call {
  const Ragged& ragged;
  int64_t steps;
  Strided input;          // [T, B, I]
  const void *h_0, *c_0;  // [L*D, B, P], [L*D, B, H]
  Strided output;         // [T, B, D*P], of the last layer
  void *h_n, *c_n;        // as h_0, c_0; h_n may be the output of one step
};

// Data and nothing more: no gradient, subclass, trace or transform to keep informed.
bool is_plain(const Tensor& t) {
  constexpr c10::DispatchKeySet kPlain({c10::DispatchKey::CPU, c10::DispatchKey::AutogradCPU,
                                        c10::DispatchKey::AutocastCPU,
                                        c10::DispatchKey::ADInplaceOrView});
  return t.defined() && kPlain.has_all(t.key_set()) &&
         !(at::GradMode::is_enabled() && t.requires_grad()) && !t._fw_grad(0).defined();
}

bool is_state(const MaybeTensor& t, const Tensor& input, at::IntArrayRef shape) {
  return !t || (is_plain(*t) && t->scalar_type() == input.scalar_type() && t->sizes() == shape);
}

bool is_input(const Tensor& t, int64_t dim, const RecurrentSizes& s, at::TensorList weights) {
  return is_plain(t) && t.scalar_type() == weights[0].scalar_type() && t.dim() == dim &&
         t.size(-1) == s.input;
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

bool is_cell_name(c10::string_view name, CellKind& cell) {
  if (name == "LSTM") return cell = CellKind::kLstm, true;
  if (name == "GRU") return cell = CellKind::kGru, true;
  if (name == "RNN_TANH") return cell = CellKind::kRnnTanh, true;
  return cell = CellKind::kRnnRelu, name == "RNN_RELU";
}

template <typename T>
bool read_layers(Module& m, at::TensorList weights, at::TensorList packed) {
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

// Whether `packed` is what was made of these weights when their state was `state`.
bool read_module(Module& m, c10::string_view cell, at::TensorList weights, int64_t state,
                 at::TensorList packed) {
  m.layers = packed.size();
  if (!is_cell_name(cell, m.cell) || packed.empty() || weights.empty() ||
      weights.size() % packed.size() != 0 || at::autocast::is_autocast_enabled(at::kCPU))
    return false;
  for (const at::TensorList& list : {weights, packed})
    for (const Tensor& t : list)
      if (!is_plain(t)) return false;
  const at::ScalarType own = weights[0].scalar_type(), stored = packed[0].scalar_type();
  m.is_double = own == at::kDouble;
  m.type = weight_type(stored);
  m.directions = packed[0].dim() == 2 ? packed[0].size(0) : 0;
  return (own == at::kFloat || own == at::kDouble) && is_storage_of(own, stored) &&
         (m.directions == 1 || m.directions == 2) && weights_state(weights) == state &&
         (m.is_double ? read_layers<double>(m, weights, packed)
                      : read_layers<float>(m, weights, packed));
}

// Memory for the time of a call.
at::DataPtr allocate(int64_t bytes) { return c10::GetCPUAllocator()->allocate(bytes); }

template <typename T>
class Run {
 public:
  Run(const Module& m, const Call& call)
      : m_(m),
        call_(call),
        kernels_(kernels<T>().cell(m.cell, m.type)),
        batch_(call.ragged.view().batch),
        width_(m.directions * m.sizes[0].output),
        between_(allocate(std::min<int64_t>(m.layers - 1, 2) * half_bytes())),
        workspaces_(m.directions) {
    if (call.h_0) return;
    const int64_t values = batch_ * std::max(m.sizes[0].hidden, m.sizes[0].output);
    zeros_ = allocate(values * sizeof(T));
    std::fill_n(static_cast<T*>(zeros_.get()), values, T(0));
  }

  void run() {
    const RecurrentSizes &first = m_.sizes[0], &last = m_.sizes.back();
    const RecurrentSizes& widest = first.input > last.input ? first : last;
    run_directions(
        {widest, call_.steps, batch_, m_.directions, kernels_.gates}, m_.layers, call_.ragged,
        [&](int64_t d, int threads) {
          workspaces_[d] = allocate(kernels_.forward_workspace(widest, batch_, threads));
        },
        [&](int64_t layer, int64_t d, const Team& team) {
          kernels_.forward(arguments(layer, d), team);
        });
  }

 private:
  int64_t half_bytes() const { return call_.steps * batch_ * width_ * sizeof(T); }

  // Layers write to the two halves of `between_` in turn, the last one to the output.
  Strided output(int64_t layer) const {
    if (layer + 1 == m_.layers) return call_.output;
    return {static_cast<char*>(between_.get()) + layer % 2 * half_bytes(), batch_ * width_, width_};
  }

  RecurrentForward<T> arguments(int64_t layer, int64_t d) const {
    const RecurrentSizes& s = m_.sizes[layer];
    const Tensor& packed = *m_.packed[layer];
    const Strided from = layer ? output(layer - 1) : call_.input;
    Sequence<T> to = output(layer).template as<T>();
    to.data += d * s.output;
    const int64_t slab = (layer * m_.directions + d) * batch_;
    const auto initial = [&](const void* given, int64_t features) {
      return given ? static_cast<const T*>(given) + slab * features
                   : static_cast<const T*>(zeros_.get());
    };
    T* const h_n = static_cast<T*>(call_.h_n) + slab * s.output;
    T* const c_n = kernels_.has_cell ? static_cast<T*>(call_.c_n) + slab * s.hidden : nullptr;
    return {call_.ragged.view(),
            s,
            d == 1,
            static_cast<const char*>(packed.const_data_ptr()) + d * packed.nbytes() / m_.directions,
            from.template as<const T>(),
            to,
            initial(call_.h_0, s.output),
            h_n,
            kernels_.has_cell ? initial(call_.c_0, s.hidden) : nullptr,
            c_n,
            nullptr,
            workspaces_[d].get()};
  }

  const Module& m_;
  const Call& call_;
  const RecurrentKernels<T>& kernels_;
  const int64_t batch_, width_;
  const at::DataPtr between_;
  at::DataPtr zeros_;
  std::vector<at::DataPtr> workspaces_;
};

void run(const Module& m, const Call& call) {
  if (m.is_double)
    Run<double>(m, call).run();
  else
    Run<float>(m, call).run();
}

const void* data(const MaybeTensor& t) { return t ? t->const_data_ptr() : nullptr; }
MaybeTensor dense(const MaybeTensor& t) { return t ? MaybeTensor(t->contiguous()) : t; }

Strided rows(const Tensor& t, int64_t time_stride, int64_t batch_stride) {
  return {const_cast<void*>(t.const_data_ptr()), time_stride, batch_stride};
}

// Both states or none.
bool are_complete(const Module& m, const MaybeTensor& h_0, const MaybeTensor& c_0) {
  return m.cell == CellKind::kLstm ? h_0.has_value() == c_0.has_value() : !c_0.has_value();
}

}  // namespace

Results cell_inference(c10::string_view cell, const Tensor& any_input, const MaybeTensor& any_h,
                       const MaybeTensor& any_c, at::TensorList weights, int64_t state,
                       const Tensor& packed) {
  Module m;
  if (!read_module(m, cell, weights, state, packed) || m.directions != 1) return {};
  const RecurrentSizes& s = m.sizes[0];
  if (s.projected || !is_input(any_input, 2, s, weights)) return {};
  const int64_t batch = any_input.size(0);
  const std::array<int64_t, 2> shape{batch, s.hidden};
  if (!is_state(any_h, any_input, shape) || !is_state(any_c, any_input, shape) ||
      !are_complete(m, any_h, any_c))
    return {};
  const Tensor input = dense_rows(any_input);
  const MaybeTensor h = dense(any_h), c = dense(any_c);
  Results results(m.cell == CellKind::kLstm ? 2 : 1);
  for (Tensor& t : results) t = at::empty(shape, input.options());
  const Strided output = rows(results[0], 0, s.hidden);
  run(m, {Ragged(std::nullopt, batch, 1), 1, rows(input, 0, input.stride(0)), data(h), data(c),
          output, output.data, results.back().data_ptr()});
  return results;
}

Results layers_inference(c10::string_view cell, const Tensor& any_input,
                         const MaybeTensor& any_lengths, const MaybeTensor& any_h,
                         const MaybeTensor& any_c, at::TensorList weights, int64_t state,
                         at::TensorList packed, bool batch_first) {
  Module m;
  if (!read_module(m, cell, weights, state, packed)) return {};
  const RecurrentSizes& s = m.sizes[0];
  if (!is_input(any_input, 3, s, weights)) return {};
  const Tensor input = dense_rows(batch_first ? any_input.transpose(0, 1) : any_input);
  const int64_t steps = input.size(0), batch = input.size(1), slabs = m.layers * m.directions;
  const std::array<int64_t, 3> shape{steps, batch, m.directions * s.output};
  const std::array<int64_t, 3> h_shape{slabs, batch, s.output}, c_shape{slabs, batch, s.hidden};
  if (steps == 0 || !is_state(any_h, input, h_shape) || !is_state(any_c, input, c_shape) ||
      !are_complete(m, any_h, any_c) || !are_lengths(any_lengths, batch, steps))
    return {};
  const MaybeTensor h = dense(any_h), c = dense(any_c), lengths = dense(any_lengths);
  const Ragged ragged(lengths, batch, steps);
  const Tensor output = ragged.is_ragged(steps) ? at::zeros(shape, input.options())
                                                : at::empty(shape, input.options());
  Results results{batch_first ? output.transpose(0, 1) : output,
                  at::empty(h_shape, input.options())};
  if (m.cell == CellKind::kLstm) results.push_back(at::empty(c_shape, input.options()));
  run(m, {ragged, steps, rows(input, input.stride(0), input.stride(1)), data(h), data(c),
          rows(output, output.stride(0), output.stride(1)), results[1].data_ptr(),
          results.back().data_ptr()});
  return results;
}

}  // namespace seq2seq_ext
