// A whole recurrent module in one call where no gradient is wanted: what surrounds the kernels of
// one step would cost more than they do.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "recurrent_run.h"

namespace seq2seq_ext {

// A module's weights, kept with what was packed of them. Calls have the bits of the layers' ops,
// and answer nothing where the module must go the general way: gradients, autocast, tensors that
// are more than their data, weights that changed since they were packed, and arguments that are
// wrong, which the general way refuses by name.
class [[gnu::visibility("default")]] RecurrentInference {
 public:
  // cell: torch.nn's mode. weights: those of all layers, as the layer's op takes them, one after
  // the other. state: of weights_state when `packed`, a tensor a layer, was made.
  RecurrentInference(c10::string_view cell, std::vector<at::Tensor> weights, int64_t state,
                     std::vector<at::Tensor> packed);

  // A cell's new states: input [B, I]; h, c [B, H] or zeros.
  std::vector<at::Tensor> step(const at::Tensor& input, const std::optional<at::Tensor>& h,
                               const std::optional<at::Tensor>& c) const;

  // Output [T, B, D*P] and final states: input [T, B, I], both with T and B changed places if
  // batch_first; lengths int64 [B]; h_0 [L*D, B, P], c_0 [L*D, B, H] or zeros.
  std::vector<at::Tensor> layers(const at::Tensor& input, const std::optional<at::Tensor>& lengths,
                                 const std::optional<at::Tensor>& h_0,
                                 const std::optional<at::Tensor>& c_0, bool batch_first) const;

 private:
  bool may_run() const;

  const std::vector<at::Tensor> weights_, packed_;
  const int64_t state_;
  RecurrentModule module_{};
  bool is_readable_;
};

}  // namespace seq2seq_ext
