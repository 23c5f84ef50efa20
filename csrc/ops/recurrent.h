// What the lstm, gru and rnn ops share: check, allocate, sort by length, run both
// directions, and the large products after backward.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <vector>

#include "kernels/isa.h"

namespace seq2seq_ext {

// Dims as in kernels/recurrent.h; D directions. weights: for each direction weight_ih,
// weight_hh, then bias_ih, bias_hh if has_biases, then weight_hr if P is projected.
struct LayerInputs {
  const char* op;
  CellKind cell;
  at::Tensor input;                   // [T, B, I]
  std::optional<at::Tensor> lengths;  // int64 [B] or all T
  at::Tensor h_0;                     // [D, B, P]
  at::Tensor c_0;                     // [D, B, H]; undefined without a cell state
  at::TensorList weights;
  bool has_biases;
};

struct LayerOutputs {
  at::Tensor output;  // [T, B, D*P], zero past the end
  at::Tensor h_n;     // [D, B, P]
  at::Tensor c_n;     // [D, B, H] or undefined
  at::Tensor saved;   // private to backward; empty in inference
};

// What backward gets of forward and of the gradients of its outputs.
struct LayerBackward {
  at::Tensor output, saved;
  at::Tensor grad_output, grad_h_n, grad_c_n;  // c_n undefined without a cell state
  std::optional<at::ScalarType> dtype;         // that both sides of a product are rounded to
  std::array<bool, 2> wanted;                  // gradients of the input; of the weights

  bool wants_input() const { return wanted[0]; }
  bool wants_weights() const { return wanted[1]; }
};

// Empty where not wanted or not there.
struct LayerGradients {
  at::Tensor input, h_0, c_0;
  at::Tensor weight_ih;         // [D, G*H, I]
  at::Tensor weight_hh;         // [D, G*H, P]
  at::Tensor bias_ih, bias_hh;  // [D, G*H]
  at::Tensor weight_hr;         // [D, P, H]
};

LayerOutputs layer_forward(const LayerInputs&, const std::optional<at::Tensor>& packed, bool save);

LayerGradients layer_backward(const LayerInputs&, const LayerBackward&);

// The weights as forward's kernels read them, stored as dtype or as they are: [D, size] of it,
// opaque, valid for the ISA in force.
at::Tensor layer_pack(const char* op, CellKind cell, at::TensorList weights, bool has_biases,
                      std::optional<at::ScalarType> dtype);

// The size of what layer_pack gives for a direction, for tracing.
int64_t layer_packed_size(CellKind, const RecurrentSizes&, at::ScalarType dtype);

}  // namespace seq2seq_ext
