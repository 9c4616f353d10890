// Vectors of int16, and sums in int32 of products of pairs of them, for one instruction set. Sums wrap around: their
// value counts modulo 2^32 until the last step makes a small number of it.
#pragma once

#include "core/simd_int8.h"

namespace maam {
namespace MAAM_ISA {

#if defined(__AVX512F__)

struct I16 {
  static constexpr int kLanes = 32;
  __m512i v;
};

MAAM_INLINE I16 Load(const int16_t* p) { return {_mm512_loadu_si512(p)}; }
MAAM_INLINE I16 LoadWide(const uint8_t* p) {
  return {_mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
MAAM_INLINE void Store(int16_t* p, I16 x) { _mm512_storeu_si512(p, x.v); }
MAAM_INLINE I16 Add(I16 a, I16 b) { return {_mm512_add_epi16(a.v, b.v)}; }
MAAM_INLINE I16 Sub(I16 a, I16 b) { return {_mm512_sub_epi16(a.v, b.v)}; }
template <int kBits>
MAAM_INLINE I16 Shift(I16 a) {
  return {_mm512_slli_epi16(a.v, kBits)};
}
MAAM_INLINE I32 Sub(I32 a, I32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
MAAM_INLINE I32 Mul(I32 a, I32 b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
template <int kBits>
MAAM_INLINE I32 Shift(I32 a) {
  return {_mm512_slli_epi32(a.v, kBits)};
}
template <int kBits>
MAAM_INLINE I32 ShiftRight(I32 a) {
  return {_mm512_srai_epi32(a.v, kBits)};
}
// sum of each lane + its two products.
MAAM_INLINE I32 AddPairs(I32 sum, I32 a, I32 b) {
#if defined(__AVX512VNNI__)
  return {_mm512_dpwssd_epi32(sum.v, a.v, b.v)};
#else
  return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(a.v, b.v))};
#endif
}

#elif defined(__AVX2__)

struct I16 {
  static constexpr int kLanes = 16;
  __m256i v;
};

MAAM_INLINE I16 Load(const int16_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
MAAM_INLINE I16 LoadWide(const uint8_t* p) {
  return {_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
MAAM_INLINE void Store(int16_t* p, I16 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.v); }
MAAM_INLINE I16 Add(I16 a, I16 b) { return {_mm256_add_epi16(a.v, b.v)}; }
MAAM_INLINE I16 Sub(I16 a, I16 b) { return {_mm256_sub_epi16(a.v, b.v)}; }
template <int kBits>
MAAM_INLINE I16 Shift(I16 a) {
  return {_mm256_slli_epi16(a.v, kBits)};
}
MAAM_INLINE I32 Sub(I32 a, I32 b) { return {_mm256_sub_epi32(a.v, b.v)}; }
MAAM_INLINE I32 Mul(I32 a, I32 b) { return {_mm256_mullo_epi32(a.v, b.v)}; }
template <int kBits>
MAAM_INLINE I32 Shift(I32 a) {
  return {_mm256_slli_epi32(a.v, kBits)};
}
template <int kBits>
MAAM_INLINE I32 ShiftRight(I32 a) {
  return {_mm256_srai_epi32(a.v, kBits)};
}
MAAM_INLINE I32 AddPairs(I32 sum, I32 a, I32 b) { return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(a.v, b.v))}; }

#else

struct I16 {
  static constexpr int kLanes = 8;
  typedef int16_t Vector __attribute__((vector_size(16)));
  Vector v;
};
typedef uint32_t Unsigned __attribute__((vector_size(16)));

MAAM_INLINE I16 Load(const int16_t* p) {
  I16 x;
  std::memcpy(&x.v, p, sizeof x.v);
  return x;
}
MAAM_INLINE I16 LoadWide(const uint8_t* p) { return {I16::Vector{p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]}}; }
MAAM_INLINE void Store(int16_t* p, I16 x) { std::memcpy(p, &x.v, sizeof x.v); }
MAAM_INLINE I16 Add(I16 a, I16 b) { return {a.v + b.v}; }
MAAM_INLINE I16 Sub(I16 a, I16 b) { return {a.v - b.v}; }
template <int kBits>
MAAM_INLINE I16 Shift(I16 a) {
  return {a.v << kBits};
}
MAAM_INLINE I32 Sub(I32 a, I32 b) { return {(I32::Vector)((Unsigned)a.v - (Unsigned)b.v)}; }
MAAM_INLINE I32 Mul(I32 a, I32 b) { return {(I32::Vector)((Unsigned)a.v * (Unsigned)b.v)}; }
template <int kBits>
MAAM_INLINE I32 Shift(I32 a) {
  return {(I32::Vector)((Unsigned)a.v << kBits)};
}
template <int kBits>
MAAM_INLINE I32 ShiftRight(I32 a) {
  return {a.v >> kBits};
}
MAAM_INLINE I32 AddPairs(I32 sum, I32 a, I32 b) {
  const I32 low = Mul(ShiftRight<16>(Shift<16>(a)), ShiftRight<16>(Shift<16>(b)));
  return Add(sum, Add(low, Mul(ShiftRight<16>(a), ShiftRight<16>(b))));
}

#endif

// The same two numbers in each lane.
MAAM_INLINE I32 BroadcastPair(const int16_t* p) {
  int32_t pair;
  std::memcpy(&pair, p, sizeof pair);
  return SetInt(pair);
}

}  // namespace MAAM_ISA
}  // namespace maam
