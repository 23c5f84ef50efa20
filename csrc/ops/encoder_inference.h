// A model's whole encoder where no gradient is wanted.
#pragma once

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace seq2seq_ext {

// A linear layer's weight, bias or none, and packed weight; or nothing where there is no layer.
using MaybeTensors = c10::List<std::optional<at::Tensor>>;

// src: int64 [B, S] with an embedding [V, E], else float32 [B, S, F]. lengths: int64 [B].
// cell: torch.nn's mode. layers: what each bidirectional layer's pack op gave. bridge and, of an
// LSTM, cell_bridge: [B, 2H] -> [B, N*H] for N decoder layers. feeds: the state ends with a zero
// attentional vector. Without keys they are the memory.
//
// Returns memory [B, S, M], zero past the end before the projection, keys [B, S, A], and the
// decoder's initial state [parts, B, H].
std::tuple<at::Tensor, at::Tensor, at::Tensor> encoder_inference(
    const at::Tensor& src, const at::Tensor& lengths, const std::optional<at::Tensor>& embedding,
    c10::string_view cell, at::TensorList layers, int64_t hidden, const MaybeTensors& projection,
    const MaybeTensors& bridge, const MaybeTensors& cell_bridge, const MaybeTensors& keys,
    bool feeds);

}  // namespace seq2seq_ext
