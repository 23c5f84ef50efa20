// The kernels of all layers and directions of a module, one call after another.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <vector>

#include "kernels/isa.h"
#include "recurrent_team.h"

namespace seq2seq_ext {

// A module's weights and how to read them.
struct RecurrentModule {
  CellKind cell;
  int64_t layers, directions;
  bool is_double;
  WeightType type;
  std::vector<RecurrentSizes> sizes;      // [L]
  std::vector<const at::Tensor*> packed;  // [L]
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
struct RecurrentCall {
  const Ragged& ragged;
  int64_t steps;
  Strided input;          // [T, B, I]
  const void *h_0, *c_0;  // [L*D, B, P], [L*D, B, H]
  Strided output;         // [T, B, D*P], of the last layer
  void *h_n, *c_n;        // as h_0, c_0; h_n may be the output of one step
};

// A cell by torch.nn's name of its mode.
inline bool is_mode(c10::string_view name, CellKind& cell) {
  if (name == "LSTM") return cell = CellKind::kLstm, true;
  if (name == "GRU") return cell = CellKind::kGru, true;
  if (name == "RNN_TANH") return cell = CellKind::kRnnTanh, true;
  return cell = CellKind::kRnnRelu, name == "RNN_RELU";
}

inline Strided strided(const at::Tensor& t, int64_t time_stride, int64_t batch_stride) {
  return {const_cast<void*>(t.const_data_ptr()), time_stride, batch_stride};
}

// Memory for the time of a call.
inline at::DataPtr allocate(int64_t bytes) { return c10::GetCPUAllocator()->allocate(bytes); }

template <typename T>
class RecurrentRun {
 public:
  RecurrentRun(const RecurrentModule& m, const RecurrentCall& call)
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
    const at::Tensor& packed = *m_.packed[layer];
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

  const RecurrentModule& m_;
  const RecurrentCall& call_;
  const RecurrentKernels<T>& kernels_;
  const int64_t batch_, width_;
  const at::DataPtr between_;
  at::DataPtr zeros_;
  std::vector<at::DataPtr> workspaces_;
};

inline void run_module(const RecurrentModule& m, const RecurrentCall& call) {
  if (m.is_double)
    RecurrentRun<double>(m, call).run();
  else
    RecurrentRun<float>(m, call).run();
}

}  // namespace seq2seq_ext
