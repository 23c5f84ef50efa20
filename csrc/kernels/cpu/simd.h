// One vector type per scalar type, as wide as the instruction set this file is
// compiled for. Compiler vector extensions keep one source for every ISA.
//
// Included only by the files that are compiled once per ISA. Everything lives in
// the ISA's own namespace, so the linker can never hand an AVX-512 body to an
// older CPU. No std templates here, for the same reason.
#pragma once

#include <cstdint>

#include "tanh_table.h"

#define SEQ2SEQ_EXT_CELL  // of ../cell.h

#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

constexpr int kVectorBytes = SEQ2SEQ_EXT_VECTOR_BYTES;

template <typename T>
struct Simd {
  typedef T Vec __attribute__((vector_size(kVectorBytes)));
  static constexpr int kLanes = kVectorBytes / sizeof(T);
};

template <typename T>
using Vec = typename Simd<T>::Vec;

using VecF = Vec<float>;
using VecD = Vec<double>;
using VecI = Vec<int32_t>;
using VecS = Vec<int16_t>;

template <typename T>
inline Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <typename T>
inline void store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

template <typename T>
inline Vec<T> broadcast(T x) {
  return x - Vec<T>{};  // x - 0 is x, -0 too, so the compiler drops it; 0 + x it has to add
}

// The first n < kLanes lanes; the others as in rest.
template <typename T>
inline Vec<T> load_part(const T* p, int64_t n, Vec<T> rest) {
  for (int64_t i = 0; i < n; ++i) rest[i] = p[i];
  return rest;
}

template <typename T>
inline void store_part(T* p, Vec<T> v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}

#if SEQ2SEQ_EXT_VECTOR_BYTES == 64
// Lane by lane they would wait for what was just stored.
inline uint32_t first_bits(int64_t n) { return n > 0 ? (1u << n) - 1 : 0; }

inline VecF load_part(const float* p, int64_t n, VecF rest) {
  return (VecF)_mm512_mask_loadu_ps((__m512)rest, first_bits(n), p);
}
inline VecD load_part(const double* p, int64_t n, VecD rest) {
  return (VecD)_mm512_mask_loadu_pd((__m512d)rest, first_bits(n), p);
}
inline void store_part(float* p, VecF v, int64_t n) {
  _mm512_mask_storeu_ps(p, first_bits(n), (__m512)v);
}
inline void store_part(double* p, VecD v, int64_t n) {
  _mm512_mask_storeu_pd(p, first_bits(n), (__m512d)v);
}
#endif

// The first n lanes; the others are zero. n >= kLanes loads a whole vector.
template <typename T>
inline Vec<T> load_n(const T* p, int64_t n) {
  return n >= Simd<T>::kLanes ? load(p) : load_part(p, n, Vec<T>{});
}

template <typename T>
inline void store_n(T* p, Vec<T> v, int64_t n) {
  if (n >= Simd<T>::kLanes) return store(p, v);
  store_part(p, v, n);
}

// a * b + c, rounded once where the ISA has it. Left to the compiler, a product and its sum are
// fused only when both end up in one basic block, so the same sum could differ in its last bit
// between two unrollings of one template.
inline VecF multiply_add(VecF a, VecF b, VecF c) {
#if defined(__FMA__) && SEQ2SEQ_EXT_VECTOR_BYTES == 64
  return (VecF)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (VecF)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

inline VecD multiply_add(VecD a, VecD b, VecD c) {
#if defined(__FMA__) && SEQ2SEQ_EXT_VECTOR_BYTES == 64
  return (VecD)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__FMA__)
  return (VecD)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
  return a * b + c;
#endif
}

// The smaller and the larger of both; b where one is NaN. A comparison and a choice would take the
// compiler two instructions.
inline VecF minimum(VecF a, VecF b) {
#if SEQ2SEQ_EXT_VECTOR_BYTES == 64
  return (VecF)_mm512_min_ps((__m512)a, (__m512)b);
#elif SEQ2SEQ_EXT_VECTOR_BYTES == 32
  return (VecF)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}

inline VecF maximum(VecF a, VecF b) {
#if SEQ2SEQ_EXT_VECTOR_BYTES == 64
  return (VecF)_mm512_max_ps((__m512)a, (__m512)b);
#elif SEQ2SEQ_EXT_VECTOR_BYTES == 32
  return (VecF)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}

inline VecD maximum(VecD a, VecD b) { return a > b ? a : b; }

inline VecF magnitude(VecF x) { return (VecF)((VecI)x & 0x7fffffff); }
inline VecD magnitude(VecD x) { return x < 0 ? -x : x; }

// 1 / x to 1 ulp, for |x| in [2^-125, 2^125] or NaN; up to 2^128 zero will do for it. An estimate
// to 14 bits and one step of Newton's, where that is quicker than the division.
inline VecF reciprocal(VecF x) {
#if SEQ2SEQ_EXT_VECTOR_BYTES == 64
  const VecF r = (VecF)_mm512_rcp14_ps((__m512)x);
  return multiply_add(multiply_add(-x, r, broadcast(1.0f)), r, r);
#else
  return 1.0f / x;
#endif
}

inline VecD reciprocal(VecD x) { return 1.0 / x; }

// Is any lane of a comparison true?
template <typename Mask>
inline bool any(Mask mask) {
  typedef int64_t Words __attribute__((vector_size(kVectorBytes)));
  const Words words = (Words)mask;
  int64_t bits = 0;
  for (int i = 0; i < kVectorBytes / 8; ++i) bits |= words[i];
  return bits != 0;
}

// Lane i of a comparison is bit i.
template <typename Mask>
inline uint32_t lane_bits(Mask mask) {
#if SEQ2SEQ_EXT_VECTOR_BYTES == 64
  if constexpr (sizeof(mask[0]) == 4) return _mm512_movepi32_mask((__m512i)mask);
  return _mm512_movepi64_mask((__m512i)mask);
#else
  uint32_t bits = 0;
  for (unsigned i = 0; i < sizeof(mask) / sizeof(mask[0]); ++i) bits |= (mask[i] & 1u) << i;
  return bits;
#endif
}

// To the nearest integer, ties to even.
inline VecI round_to_int(VecF x) {
#if SEQ2SEQ_EXT_VECTOR_BYTES == 64
  return (VecI)_mm512_cvtps_epi32((__m512)x);
#elif SEQ2SEQ_EXT_VECTOR_BYTES == 32
  return (VecI)_mm256_cvtps_epi32((__m256)x);
#elif defined(__SSE2__)
  return (VecI)_mm_cvtps_epi32((__m128)x);
#else
  VecI n;
  for (int i = 0; i < Simd<float>::kLanes; ++i) n[i] = (int32_t)__builtin_nearbyintf(x[i]);
  return n;
#endif
}

// sum[i] + a[2 i] b[2 i] + a[2 i + 1] b[2 i + 1].
inline VecI add_pairs(VecS a, VecS b, VecI sum) {
#if SEQ2SEQ_EXT_VECTOR_BYTES == 64
  return sum + (VecI)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif SEQ2SEQ_EXT_VECTOR_BYTES == 32
  return sum + (VecI)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return sum + (VecI)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  for (int i = 0; i < Simd<int32_t>::kLanes; ++i)
    sum[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
  return sum;
#endif
}

inline VecS widen(const int8_t* p) {
  typedef int8_t Half __attribute__((vector_size(kVectorBytes / 2)));
  Half half;
  __builtin_memcpy(&half, p, sizeof(half));
  return __builtin_convertvector(half, VecS);
}

// Lanes are added in a fixed tree, so a sum never depends on its neighbours.
template <typename T>
inline T reduce_add(Vec<T> v) {
  T lanes[Simd<T>::kLanes];
  store(lanes, v);
  for (int half = Simd<T>::kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

template <typename T>
inline T reduce_max(Vec<T> v) {
  T lanes[Simd<T>::kLanes];
  __builtin_memcpy(lanes, &v, sizeof(lanes));
  for (int half = Simd<T>::kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i)
      lanes[i] = lanes[i + half] > lanes[i] ? lanes[i + half] : lanes[i];
  return lanes[0];
}

// y 2^n for an n that is whole, y in [0.7, 1.5] and a result that is normal; NaN where y is NaN.
// bits: n, in the low bits of a float.
inline VecF scale(VecF y, VecF n, VecF bits) {
#if SEQ2SEQ_EXT_VECTOR_BYTES == 64
  (void)bits;
  return (VecF)_mm512_scalef_ps((__m512)y, (__m512)n);
#else
  (void)n;
  const VecI scaled = (VecI)y + ((VecI)bits << 23);
  return y == y ? (VecF)scaled : y;
#endif
}

// e^x, at most 1.5 ulp. Range reduction x = n ln2 + r with |r| <= ln2 / 2, a
// degree-6 minimax polynomial in r, then times 2^n.
// Below -87.3 the result is the smallest normal number, above 88.3 it stays finite.
inline VecF exp(VecF x) {
  x = minimum(broadcast(88.3f), maximum(broadcast(-87.3f), x));
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const VecF shifted = x * 1.44269504088896341f + kRound;
  const VecF n = shifted - kRound;
  const VecF r = (x - n * 0.693145751953125f) - n * 1.428606820309417e-6f;
  VecF p = r * 0.00138145986f + 0.00836871697f;
  p = p * r + 0.0416683881f;
  p = p * r + 0.166665206f;
  p = p * r + 0.499999934f;
  const VecF y = (p * r) * r + r + 1.0f;
  return scale(y, n, shifted);
}

inline VecF sigmoid(VecF x) { return reciprocal(1.0f + exp(-x)); }

#if SEQ2SEQ_EXT_VECTOR_BYTES == 64

// tanh, at most 1 ulp: a polynomial for each piece of the line, its coefficients from a table that
// two registers hold a row of. NaN falls into some piece and stays one.
inline VecF tanh(VecF x) {
  const VecF size = minimum(broadcast(kTanhLast), magnitude(x));
  const __m512i piece =
      _mm512_max_epi32(_mm512_srli_epi32((__m512i)size, 21), _mm512_set1_epi32(kTanhFirst));
  const auto of_piece = [piece](const float* row) {
    return (VecF)_mm512_permutex2var_ps(_mm512_load_ps(row), piece, _mm512_load_ps(row + 16));
  };
  const VecF d = size - of_piece(kTanh[0]);
  VecF y = of_piece(kTanh[7]);
#pragma GCC unroll 6
  for (int i = 6; i > 0; --i) y = multiply_add(y, d, of_piece(kTanh[i]));
  const VecI sign = (VecI)x & static_cast<int32_t>(0x80000000);
  return (VecF)((VecI)y | sign);
}

#else

// tanh, at most 0.95 ulp: below 1, where 1 - 2/(e^{2x}+1) would lose digits, an odd polynomial;
// that formula elsewhere. A quarter of x^3 is taken from x first, and what that sum rounds away is
// given back, so that little of the polynomial's own error is left.
inline VecF tanh(VecF x) {
  const VecF size = magnitude(x);
  const VecF far = 1.0f - 2.0f * reciprocal(exp(2.0f * size) + 1.0f);
  const VecF z = x * x;
  VecF p = z * -0.000358410674f + 0.002301272f;
  p = p * z + -0.00794606376f;
  p = p * z + 0.0214866996f;
  p = p * z + -0.0538798496f;
  p = p * z + 0.133323461f;
  p = p * z + -0.083332956f;
  const VecF cube = z * x, quarter = 0.25f * cube;
  const VecF sum = x - quarter;
  const VecF near = sum + (((x - sum) - quarter) + p * cube);
  const VecI sign = (VecI)x & static_cast<int32_t>(0x80000000);
  return size < 1.0f ? near : (VecF)((VecI)far | sign);
}

#endif

// float64 exists for exact tests, not for speed: lane by lane.
inline VecD exp(VecD x) {
  for (int i = 0; i < Simd<double>::kLanes; ++i) x[i] = __builtin_exp(x[i]);
  return x;
}

inline VecD sigmoid(VecD x) { return 1.0 / (1.0 + exp(-x)); }

inline VecD tanh(VecD x) {
  for (int i = 0; i < Simd<double>::kLanes; ++i) x[i] = __builtin_tanh(x[i]);
  return x;
}

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
