// Products of warps: C += A B^T, where rows of A and rows of B are contiguous in depth.
//
// A warp multiplies tiles of 16 rows of A and a panel of 8 rows of B, a slab of 64 bytes of depth
// at a time. Lane 4 g + q holds chunk q of the slab of rows g and g + 8 of A and of row g of B:
// 16 neighbouring bytes each, one load. That is not the order of depth that the instructions
// name, but it is the same for A and B, and a sum does not mind. Of C the lane gets columns 2 q
// and 2 q + 1 of rows g and g + 8.
//
// The instructions are mma.sync on every architecture. Whether sm_90a's wgmma would pay, and where,
// CONTRIBUTING.md tells how to decide on a GPU.
//
// What the products of T are made of is a Math:
//   Value, Sum                 of the operands, of the results
//   Sums                       a tile's, while depth goes by
//   Panel, panel(rows)         a slab of 8 rows of B, 64 bytes each, one behind the other
//   multiply(sums, low, high, panel)   with the chunks of rows g and g + 8
//   finish(sums, result)       the lane's part of C: (g, 2q), (g, 2q+1), (g+8, 2q), (g+8, 2q+1)
#pragma once

#include "device.cuh"

namespace seq2seq_ext::cuda {

constexpr int kTileRows = 16, kPanelRows = 8, kSlabChunks = 4;
template <typename T>
constexpr int kSlab = kSlabChunks * Chunk<T>::kSize;
template <typename T>
constexpr int kPanelSlab = kPanelRows * kSlab<T>;

// bfloat16 and float16; float rounded to TF32.
template <typename T>
struct TensorCores {
  using Value = T;
  using Sum = float;
  struct Sums {
    float c[4] = {};
  };
  using Panel = Chunk<T>;

  __device__ static Panel panel(const T* rows) {
    return reinterpret_cast<const Chunk<T>*>(rows)[lane_index()];
  }
  __device__ static void multiply(Sums& sums, const Chunk<T>& low, const Chunk<T>& high,
                                  const Panel& panel) {
    multiply_chunks(sums.c, low, high, panel);
  }
  __device__ static void finish(const Sums& sums, float (&result)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) result[i] = sums.c[i];
  }
};

// float and double as they are. A lane sums its quarter of depth for all 8 columns.
template <typename T>
struct MultiplyAdds {
  using Value = T;
  using Sum = T;
  struct Sums {
    T c[2][kPanelRows] = {};
  };
  using Panel = const Chunk<T>*;

  __device__ static Panel panel(const T* rows) {
    return reinterpret_cast<const Chunk<T>*>(rows) + lane_index() % kSlabChunks;
  }
  __device__ static void multiply(Sums& sums, const Chunk<T>& low, const Chunk<T>& high,
                                  Panel panel) {
#pragma unroll
    for (int j = 0; j < kPanelRows; ++j) {
      const Chunk<T> b = panel[j * kSlabChunks];
#pragma unroll
      for (int k = 0; k < Chunk<T>::kSize; ++k) {
        sums.c[0][j] = fused(low.values[k], b.values[k], sums.c[0][j]);
        sums.c[1][j] = fused(high.values[k], b.values[k], sums.c[1][j]);
      }
    }
  }
  __device__ static void finish(const Sums& sums, T (&result)[4]) {
    const bool upper = lane_index() & 2, odd = lane_index() & 1;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      T half[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const T sent = upper ? sums.c[r][j] : sums.c[r][j + 4];
        half[j] = (upper ? sums.c[r][j + 4] : sums.c[r][j]) + shuffle_xor(sent, 2);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const T sent = odd ? half[j] : half[j + 2];
        result[r * 2 + j] = (odd ? half[j + 2] : half[j]) + shuffle_xor(sent, 1);
      }
    }
  }
};

// The Math of float that a caller asks for; the others have one.
template <typename T, bool kTf32>
struct MathOf {
  using type = TensorCores<T>;
};
template <>
struct MathOf<float, false> {
  using type = MultiplyAdds<float>;
};
template <bool kTf32>
struct MathOf<double, kTf32> {
  using type = MultiplyAdds<double>;
};

// body.template operator()<Math>().
template <typename T, class Body>
void with_math(bool tf32, const Body& body) {
  if constexpr (sizeof(T) == sizeof(float))
    if (tf32) return body.template operator()<TensorCores<T>>();
  body.template operator()<typename MathOf<T, false>::type>();
}

// n values of a row from `from` on, zeros behind them. aligned: every chunk lies on 16 bytes.
template <typename T>
__device__ Chunk<T> load_part(const T* from, int64_t n, bool aligned) {
  if (aligned && n >= Chunk<T>::kSize) return load_fresh(reinterpret_cast<const Chunk<T>*>(from));
  Chunk<T> chunk = {};
#pragma unroll
  for (int i = 0; i < Chunk<T>::kSize; ++i)
    if (i < n) chunk.values[i] = load_fresh(from + i);
  return chunk;
}

}  // namespace seq2seq_ext::cuda
