// int8 weights: a scale for each column, and for each row of activations a scale of its own,
// found from the row alone. Both are symmetric: value = scale * q, q in [-127, 127]. The sum of
// q q' is exact in int32 (depth <= 131072), so every path gives the same integers.
//
// A column or row with a value that is not finite has the scale NaN, and gives NaN.
#pragma once

#include "weight_types.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

// q = round(x * inverse), x = q * scale.
struct Int8Scale {
  float scale, inverse;

  explicit Int8Scale(float largest) : scale(0.0f), inverse(0.0f) {
    if (largest > 1e-36f) scale = largest / 127.0f, inverse = 127.0f / largest;
    if (!(largest <= 3.4028235e38f)) scale = __builtin_nanf("");
  }
  bool finite() const { return scale == scale; }
};

inline float magnitude(float x) { return x < 0.0f ? -x : x; }

// The larger, or NaN where there is one.
inline float larger_or_nan(float a, float b) { return b > a || b != b ? b : a; }

struct Int8Layout {
  using T = float;
  static constexpr WeightType kType = WeightType::kInt8;
  using Stored = int8_t;
  using Sum = VecI;
  static constexpr bool kEncodes = true;
  // Head of a panel: the scale of each column, then what finish adds to its sum.
  static constexpr int64_t kPanelHead = kPanelWidth<T> * (sizeof(float) + sizeof(int32_t));
  static constexpr int64_t kRowHead = 64;  // its scale

  static float* scales(Stored* panel) { return behind<float>(panel, -kPanelHead); }
  static const float* scales(const Stored* panel) { return behind<float>(panel, -kPanelHead); }
  static int32_t* offsets(Stored* panel) { return behind<int32_t>(panel, -kPanelHead / 2); }
  static const int32_t* offsets(const Stored* panel) {
    return behind<int32_t>(panel, -kPanelHead / 2);
  }

  // kBeside depths of a column lie side by side; an offset is `shift` times the column's sum.
  template <class W, int kBeside, class At>
  static void pack_groups(const At& at, int64_t depth, int64_t width, int32_t shift,
                          Stored* panel) {
    const int64_t padded = groups<W>(depth) * W::kGroup;
    for (int64_t j = 0; j < kPanelWidth<T>; ++j) {
      const int64_t real = j < width ? depth : 0;
      float largest = 0.0f;
      for (int64_t k = 0; k < real; ++k) largest = larger_or_nan(largest, magnitude(at(k, j)));
      const Int8Scale s(largest);
      int32_t sum = 0;
      for (int64_t k = 0; k < padded; ++k) {
        const float scaled = k < real && s.finite() ? at(k, j) * s.inverse : 0.0f;
        const int32_t q = static_cast<int32_t>(__builtin_nearbyintf(scaled));
        panel[(k / kBeside * kPanelWidth<T> + j) * kBeside + k % kBeside] = q;
        sum += q;
      }
      scales(panel)[j] = s.scale;
      offsets(panel)[j] = shift * sum;
    }
  }

  // encoded: Q [depth], shift + q; the scale goes into the row's head.
  template <typename Q>
  static void quantize(const float* row, int64_t stride, int64_t depth, int32_t shift,
                       void* encoded) {
    constexpr int kLanes = Simd<float>::kLanes;
    typedef Q Narrow __attribute__((vector_size(kLanes * sizeof(Q))));
    float block[kLanes];
    const auto values = [&](int64_t k) {
      if (stride == 1) return load_n(row + k, depth - k);
      for (int i = 0; i < kLanes; ++i) block[i] = k + i < depth ? row[(k + i) * stride] : 0.0f;
      return load(block);
    };
    // As integers magnitudes are in the same order, NaN behind all of them.
    VecI largest{};
    for (int64_t k = 0; k < depth; k += kLanes) {
      const VecI m = (VecI)magnitude(values(k));
      largest = m > largest ? m : largest;
    }
    const int32_t all = reduce_max<int32_t>(largest);
    float value;
    __builtin_memcpy(&value, &all, sizeof(value));
    const Int8Scale s(value);
    for (int64_t k = 0; k < depth; k += kLanes) {
      const VecI q = s.finite() ? round_to_int(values(k) * s.inverse) : VecI{};
      const Narrow narrow = __builtin_convertvector(q + shift, Narrow);
      store_first(narrow, depth - k, behind<Q>(encoded, k * sizeof(Q)));
    }
    *behind<float>(encoded, -kRowHead) = s.scale;
  }

  // An explicit multiply-add, so that every unrolling rounds alike.
  template <class Row>
  static VecF finish(Sum sum, const Row* row, const Stored* panel, int column, const T* onto) {
    const float scale = *behind<float>(row, -kRowHead);
    VecI offset;
    __builtin_memcpy(&offset, offsets(panel) + column, sizeof(offset));
    return multiply_add(__builtin_convertvector(sum + offset, VecF),
                        scale * SEQ2SEQ_EXT_ISA::load(scales(panel) + column),
                        onto ? SEQ2SEQ_EXT_ISA::load(onto) : VecF{});
  }
};

#ifdef __AVX512VNNI__

// Four depths of a column side by side, kDepths of them a group; a row as q + 128, which is
// unsigned as the instructions want it.
template <int kDepths>
struct Int8Quads : Int8Layout {
  using Row = uint32_t;
  static constexpr int kGroup = kDepths, kRowStep = kDepths / 4;

  template <class At>
  static void pack(const At& at, int64_t depth, int64_t width, Stored* panel) {
    pack_groups<Int8Quads, 4>(at, depth, width, -128, panel);
  }
  static void encode(const float* row, int64_t stride, int64_t depth, Row* encoded) {
    clear_last_group<Int8Quads>(encoded, depth);
    quantize<uint8_t>(row, stride, depth, 128, encoded);
  }
};

struct Int8VectorWeights : Int8Quads<4> {
  using Weights = __m512i;
  static constexpr bool kInTileUnit = false;

  static Weights load(const Stored* weights) { return _mm512_loadu_si512(weights); }
  static void step(const Row* row, Weights w, Sum& sum) {
    sum = (VecI)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32(*row), w);
  }
};

#ifdef SEQ2SEQ_EXT_TILE_UNIT

// The same sums in vectors read the weights of few rows faster.
struct Int8Weights : Int8Quads<64> {
  using FewRows = Int8VectorWeights;
  static constexpr bool kInTileUnit = true, kScaled = true;

  template <int kSums, int kActivations, int kWeights>
  static void product() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0"
                 :
                 : "i"(kSums), "i"(kActivations), "i"(kWeights));
  }
};

#else

using Int8Weights = Int8VectorWeights;

#endif

#else

// Two depths a step, widened to int16.
struct Int8Weights : Int8Layout {
  using Row = int32_t;  // a pair of int16
  using Weights = VecS;
  static constexpr int kGroup = 2, kRowStep = 1;
  static constexpr bool kInTileUnit = false;

  template <class At>
  static void pack(const At& at, int64_t depth, int64_t width, Stored* panel) {
    pack_groups<Int8Weights, kGroup>(at, depth, width, 0, panel);
  }
  static void encode(const float* row, int64_t stride, int64_t depth, Row* encoded) {
    clear_last_group<Int8Weights>(encoded, depth);
    quantize<int16_t>(row, stride, depth, 0, encoded);
  }
  static Weights load(const Stored* weights) { return widen(weights); }
  static void step(const Row* row, Weights w, Sum& sum) {
    sum = add_pairs((VecS)(VecI)(*row - VecI{}), w, sum);
  }
};

#endif

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
