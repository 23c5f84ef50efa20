// Which tokens Gumbel noise may lift to a bound, without a logarithm.
//
// The noise of a uniform number u is -log(-log u) <= -log(1 - u), and a float's bits, read as an
// integer, are its log2 from below, as log2(1 + f) >= f: at most 0.06 too low. So the first word
// of u bounds its noise from above, and only what passes is worth the exact number.
#include "../search/sampling.h"

#include "sum_exp.h"
#include "tables.h"

namespace seq2seq_ext::SEQ2SEQ_EXT_ISA {

namespace {

typedef uint64_t VecU __attribute__((vector_size(kVectorBytes)));
constexpr int kCounters = kVectorBytes / 8, kTokens = 2 * kCounters;
static_assert(kNoiseBlock % kTokens == 0);

inline VecU same(uint64_t x) { return x - VecU{}; }

// Of the lower words of each lane.
inline VecU multiply_words(VecU a, VecU b) {
#if SEQ2SEQ_EXT_VECTOR_BYTES == 64
  // The plain intrinsic's undefined operand draws a warning from GCC.
  return (VecU)_mm512_maskz_mul_epu32(-1, (__m512i)a, (__m512i)b);
#elif SEQ2SEQ_EXT_VECTOR_BYTES == 32
  return (VecU)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (VecU)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF);
#endif
}

// Philox4x32-10 in lanes of 64 bits, whose upper words are of no account. Returns the first word
// of each token's uniform number, in the tokens' order: words 1 and 3 of each counter.
inline VecU first_words(VecU c0, const NoisePlace& place) {
  VecU c1 = same(place.step), c2 = same(place.lane), c3{};
  uint32_t key_low = (uint32_t)place.seed, key_high = (uint32_t)(place.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const VecU even = multiply_words(c0, same(0xD2511F53));
    const VecU odd = multiply_words(c2, same(0xCD9E8D57));
    c0 = (odd >> 32) ^ c1 ^ same(key_low);
    c2 = (even >> 32) ^ c3 ^ same(key_high);
    c1 = odd;
    c3 = even;
    key_low += 0x9E3779B9;
    key_high += 0xBB67AE85;
  }
  return (c1 & 0xFFFFFFFF) | (c3 << 32);
}

inline VecF noise_from_above(VecU words) {
  constexpr float kLn2 = 0.6931472f;
  typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
  const VecI above = (VecI)(~(Words)words >> 1);  // (1 - u) 2^31, rounded down
  const VecI bits = (VecI) __builtin_convertvector(above, VecF);
  return broadcast(158 * kLn2) - __builtin_convertvector(bits, VecF) * (kLn2 / 8388608);
}

// The lanes of x that are as many of T as fit a vector.
inline VecF part_of(VecF x, int, float) { return x; }
inline VecD part_of(VecF x, int part, double) { return widen(x, part); }

template <typename T>
int64_t reaching(const NoisePlace& place, const T* logits, int64_t first, int64_t n, T least,
                 int64_t* ids) {
  constexpr int kLanes = Simd<T>::kLanes;
  VecU counters = same(first / 2);
  for (int lane = 0; lane < kCounters; ++lane) counters[lane] += lane;
  int64_t count = 0;
  for (int64_t i = 0; i < n; i += kTokens, counters += kCounters) {
    const VecF noise = noise_from_above(first_words(counters, place));
    for (int part = 0; part < kTokens / kLanes; ++part) {
      const int64_t begin = i + part * kLanes;
      if (begin >= n) break;
      const auto reaches = load_n(logits + begin, n - begin) + part_of(noise, part, T()) >= least;
      if (!any(reaches)) continue;
      for (int lane = 0; lane < kLanes && begin + lane < n; ++lane)
        if (reaches[lane]) ids[count++] = first + begin + lane;
    }
  }
  return count;
}

}  // namespace

template <typename T>
SamplingKernels<T> sampling_kernels() {
  return {reaching<T>};
}

template SamplingKernels<float> sampling_kernels();
template SamplingKernels<double> sampling_kernels();

}  // namespace seq2seq_ext::SEQ2SEQ_EXT_ISA
