// How the ops of a layer reach the CPU's kernels: tables, packed weights, parts of tensors.
#pragma once

#include "huge_tensor.h"
#include "kernels/isa.h"
#include "parallel.h"
#include "recurrent_inputs.h"

namespace seq2seq_ext {

template <typename T>
const RecurrentKernels<T>& cell_kernels(CellKind cell, WeightType type = WeightType::kFloat32) {
  return kernels<T>().cell(cell, type);
}

// Direction d's part of a tensor [D, ...].
template <typename T>
T* slab(const at::Tensor& t, int64_t d) {
  if (!t.defined() || !t.numel()) return nullptr;
  return reinterpret_cast<T*>(static_cast<char*>(t.data_ptr()) + d * t.stride(0) * t.itemsize());
}

template <typename T>
at::Tensor pack_directions(const Weights& weights, at::ScalarType dtype, int64_t bytes,
                           void (*pack)(const RecurrentSizes&, const RecurrentWeights<T>&, void*)) {
  const RecurrentSizes sizes = weights.sizes();
  const int64_t size = bytes / c10::elementSize(dtype);
  at::Tensor packed =
      huge_empty({weights.directions(), size}, weights.weight_ih(0).options().dtype(dtype));
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t d = begin; d < end; ++d)
      pack(sizes, weights.direction<T>(d), slab<void>(packed, d));
  };
  if (max_threads() == 1)
    run(0, weights.directions());
  else
    at::parallel_for(0, weights.directions(), 1, run);
  return packed;
}

template <typename T>
Sequence<T> sequence(T* data, const at::Tensor& t, int64_t feature) {
  return {data + feature * t.stride(2), t.stride(0), t.stride(1)};
}

}  // namespace seq2seq_ext
