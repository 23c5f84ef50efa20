// bfloat16 weights: two depths side by side, sums in float32. Rows are rounded to bfloat16, so
// the products are exact; where the CPU multiplies no bfloat16, or slowly, both are widened to
// float32. The tile unit takes a bfloat16 too small to be normal for zero.
#pragma once

#include "tile_unit.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

// Nearest, ties to even; a NaN stays one.
inline uint32_t bfloat16_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return (bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 0x40 : rounded;
}

typedef uint32_t Bfloat16Bits __attribute__((vector_size(kVectorBytes)));

// The same roundings, in the lower halves.
inline Bfloat16Bits bfloat16_bits(VecF x) {
  const Bfloat16Bits bits = (Bfloat16Bits)x;
  const Bfloat16Bits rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return (bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 0x40 : rounded;
}

// Of row[0 .. n), two bytes each, at most kLanes.
inline void bfloat16_lanes(const float* row, int64_t n, void* to) {
  typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
  store_first(__builtin_convertvector(bfloat16_bits(load_n(row, n)), Narrow), n, to);
}

// Weights from depth k on.
template <class At>
inline auto behind_depth(const At& at, int64_t first) {
  return [&at, first](int64_t k, int64_t j) { return at(first + k, j); };
}
inline Columns<float> behind_depth(const Columns<float>& b, int64_t first) {
  return {b.data + first, b.stride};
}

// kDepths: of a group; pairs of them lie side by side.
template <int kDepths>
struct Bfloat16Layout {
  using T = float;
  static constexpr WeightType kType = WeightType::kBfloat16;
  using Stored = uint16_t;
  using Sum = VecF;
  static constexpr int kGroup = kDepths;
  static constexpr int64_t kPanelHead = 0, kRowHead = 0;
  static constexpr bool kEncodes = true;

  // As float32 first, some depths at a time, then in pairs.
  template <class At>
  static void pack(const At& at, int64_t depth, int64_t width, Stored* panel) {
    constexpr int64_t kFew = 32, kWidth = kPanelWidth<T>, kLanes = Simd<T>::kLanes;
    static_assert(kFew % kGroup == 0);
    alignas(64) T full[kFew * kWidth];
    for (int64_t begin = 0; begin < depth; begin += kFew) {
      const int64_t count = smaller(kFew, depth - begin);
      const int64_t padded = (count + kGroup - 1) / kGroup * kGroup;
      FullWeights<T>::pack(behind_depth(at, begin), count, width, full);
      FullWeights<T>::clear(full + count * kWidth, padded - count);
      for (int64_t k = 0; k < padded; k += 2)
        for (int64_t j = 0; j < kWidth; j += kLanes, panel += 2 * kLanes) {
          const T* const pair = full + k * kWidth + j;
          const Bfloat16Bits bits = bfloat16_bits(load(pair)) | bfloat16_bits(load(pair + kWidth))
                                                                    << 16;
          __builtin_memcpy(panel, &bits, sizeof(bits));
        }
    }
  }
  template <class Row>
  static VecF finish(Sum sum, const Row*, const Stored*, int, const T* onto) {
    return onto ? sum + SEQ2SEQ_EXT_ISA::load(onto) : sum;
  }
};

// Where the CPU multiplies bfloat16, a row is bfloat16 too.
template <int kDepths>
struct Bfloat16Pairs : Bfloat16Layout<kDepths> {
  using Row = uint32_t;  // a pair
  static constexpr int kRowStep = kDepths / 2;

  static void encode(const float* row, int64_t stride, int64_t depth, Row* encoded) {
    clear_last_group<Bfloat16Pairs>(encoded, depth);
    if (stride == 1) {
      for (int64_t k = 0; k < depth; k += Simd<float>::kLanes)
        bfloat16_lanes(row + k, depth - k, behind<char>(encoded, k * sizeof(uint16_t)));
      return;
    }
    for (int64_t k = 0; k < depth / 2; ++k)
      encoded[k] = bfloat16_bits(row[2 * k * stride]) | bfloat16_bits(row[(2 * k + 1) * stride])
                                                            << 16;
    if (depth % 2) encoded[depth / 2] = bfloat16_bits(row[(depth - 1) * stride]);
  }
};

#if defined(SEQ2SEQ_EXT_TILE_UNIT)

struct Bfloat16Weights : Bfloat16Pairs<32> {
  static constexpr bool kInTileUnit = true, kScaled = false;

  template <int kSums, int kActivations, int kWeights>
  static void product() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0"
                 :
                 : "i"(kSums), "i"(kActivations), "i"(kWeights));
  }
};

#elif defined(__AVX512BF16__)

struct Bfloat16Weights : Bfloat16Pairs<2> {
  using Weights = __m512bh;
  static constexpr bool kInTileUnit = false;

  static Weights load(const Stored* weights) { return (Weights)_mm512_loadu_si512(weights); }
  static void step(const Row* row, Weights w, Sum& sum) {
    sum = (VecF)_mm512_dpbf16_ps((__m512)sum, w, (__m512bh)_mm512_set1_epi32(*row));
  }
};

#else

struct Bfloat16Weights : Bfloat16Layout<2> {
  using Row = float;
  struct Weights {
    VecF even, odd;
  };
  static constexpr int kRowStep = 2;
  static constexpr bool kInTileUnit = false;

  static void encode(const float* row, int64_t stride, int64_t depth, Row* encoded) {
    clear_last_group<Bfloat16Weights>(encoded, depth);
    for (int64_t k = 0; k < depth; ++k) {
      const uint32_t bits = bfloat16_bits(row[k * stride]) << 16;
      __builtin_memcpy(encoded + k, &bits, sizeof(bits));
    }
  }
  static Weights load(const Stored* weights) {
    VecI pairs;
    __builtin_memcpy(&pairs, weights, sizeof(pairs));
    return {(VecF)(pairs << 16), (VecF)(pairs & static_cast<int32_t>(0xffff0000))};
  }
  static void step(const Row* row, Weights w, Sum& sum) {
    sum = multiply_add(broadcast(row[0]), w.even, sum);
    sum = multiply_add(broadcast(row[1]), w.odd, sum);
  }
};

#endif

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
