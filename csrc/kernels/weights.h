// How packed weights are stored. Activations, sums and results keep their own type; what a
// weight type does to a row of activations is said in gemm.h.
#pragma once

#include <stdexcept>

namespace seq2seq_ext {

enum class WeightType { kFloat32, kBfloat16, kInt8 };

// The weight types that meet activations of type T. Those of double are kFloat32's entry: stored
// as they are.
template <typename T>
constexpr int kWeightTypes = 1;
template <>
inline constexpr int kWeightTypes<float> = 3;

// One table of kernels for each weight type.
template <typename T, class Table>
struct ByWeightType {
  Table of[kWeightTypes<T>];

  const Table& operator[](WeightType type) const {
    const int index = static_cast<int>(type);
    if (index >= kWeightTypes<T>) throw std::out_of_range("no kernels for this weight type");
    return of[index];
  }
};

}  // namespace seq2seq_ext
