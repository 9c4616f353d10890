// Vectors of int32 sums and of the bytes whose products go into them, for one instruction set; include after
// core/simd.h's rules (MAAM_ISA). Activations are unsigned bytes of at most kMaxActivation, weights signed bytes of at
// most kMaxWeight in magnitude: two products then fit 16 bits, so that instructions which saturate there never do, and
// every variant gives the same integers.
#pragma once

#include "core/simd.h"

namespace maam {
namespace MAAM_ISA {

#if defined(__AVX512F__)

struct I32 {
  static constexpr int kLanes = 16;
  __m512i v;
};
// Four bytes for each lane of an I32.
struct Quads {
  __m512i v;
};

MAAM_INLINE I32 SetInt(int32_t x) { return {_mm512_set1_epi32(x)}; }
MAAM_INLINE I32 Load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
MAAM_INLINE void Store(int32_t* p, I32 x) { _mm512_storeu_si512(p, x.v); }
MAAM_INLINE I32 Add(I32 a, I32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
MAAM_INLINE I32 Max(I32 a, I32 b) { return {_mm512_max_epi32(a.v, b.v)}; }
MAAM_INLINE F32 ToF32(I32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
MAAM_INLINE F32 Min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
MAAM_INLINE Quads LoadQuads(const int8_t* p) { return {_mm512_loadu_si512(p)}; }
MAAM_INLINE Quads BroadcastQuad(const uint8_t* p) {
  int32_t quad;
  std::memcpy(&quad, p, sizeof quad);
  return {_mm512_set1_epi32(quad)};
}
// sum of each lane + its four products of an activation and a weight.
MAAM_INLINE I32 AddDot(I32 sum, Quads activation, Quads weight) {
#if defined(__AVX512VNNI__)
  return {_mm512_dpbusd_epi32(sum.v, activation.v, weight.v)};
#else
  const __m512i pairs = _mm512_maddubs_epi16(activation.v, weight.v);
  return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
#endif
}
// Rounded to the nearest whole number, ties to even; x from 0 to kMaxActivation.
MAAM_INLINE void StoreRounded(uint8_t* p, F32 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x.v)));
}

#elif defined(__AVX2__)

struct I32 {
  static constexpr int kLanes = 8;
  __m256i v;
};
struct Quads {
  __m256i v;
};

MAAM_INLINE I32 SetInt(int32_t x) { return {_mm256_set1_epi32(x)}; }
MAAM_INLINE I32 Load(const int32_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
MAAM_INLINE void Store(int32_t* p, I32 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.v); }
MAAM_INLINE I32 Add(I32 a, I32 b) { return {_mm256_add_epi32(a.v, b.v)}; }
MAAM_INLINE I32 Max(I32 a, I32 b) { return {_mm256_max_epi32(a.v, b.v)}; }
MAAM_INLINE F32 ToF32(I32 a) { return {_mm256_cvtepi32_ps(a.v)}; }
MAAM_INLINE F32 Min(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
MAAM_INLINE Quads LoadQuads(const int8_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
MAAM_INLINE Quads BroadcastQuad(const uint8_t* p) {
  int32_t quad;
  std::memcpy(&quad, p, sizeof quad);
  return {_mm256_set1_epi32(quad)};
}
MAAM_INLINE I32 AddDot(I32 sum, Quads activation, Quads weight) {
  const __m256i pairs = _mm256_maddubs_epi16(activation.v, weight.v);
  return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))};
}
MAAM_INLINE void StoreRounded(uint8_t* p, F32 x) { StoreBytes(p, x); }

#else

struct I32 {
  static constexpr int kLanes = 4;
  typedef int32_t Vector __attribute__((vector_size(16)));
  typedef int16_t Halves __attribute__((vector_size(16)));
  Vector v;
};
struct Quads {
  I32::Vector v;
};

MAAM_INLINE I32 SetInt(int32_t x) { return {I32::Vector{x, x, x, x}}; }
MAAM_INLINE I32 Load(const int32_t* p) {
  I32 x;
  std::memcpy(&x.v, p, sizeof x.v);
  return x;
}
MAAM_INLINE void Store(int32_t* p, I32 x) { std::memcpy(p, &x.v, sizeof x.v); }
// Sums may wrap around (core/simd_int16.h), as those of the instructions do.
MAAM_INLINE I32 Add(I32 a, I32 b) {
  typedef uint32_t Unsigned __attribute__((vector_size(16)));
  return {(I32::Vector)((Unsigned)a.v + (Unsigned)b.v)};
}
MAAM_INLINE I32 Max(I32 a, I32 b) { return {a.v > b.v ? a.v : b.v}; }
MAAM_INLINE F32 ToF32(I32 a) {
  return {F32::Vector{static_cast<float>(a.v[0]), static_cast<float>(a.v[1]), static_cast<float>(a.v[2]),
                      static_cast<float>(a.v[3])}};
}
MAAM_INLINE F32 Min(F32 a, F32 b) { return {a.v < b.v ? a.v : b.v}; }
MAAM_INLINE Quads LoadQuads(const int8_t* p) {
  Quads x;
  std::memcpy(&x.v, p, sizeof x.v);
  return x;
}
MAAM_INLINE Quads BroadcastQuad(const uint8_t* p) {
  int32_t quad;
  std::memcpy(&quad, p, sizeof quad);
  return {I32::Vector{quad, quad, quad, quad}};
}
// Bytes 0 and 2 of each lane, then 1 and 3, as 16-bit numbers: two products sum up within 16 bits.
MAAM_INLINE I32 AddDot(I32 sum, Quads activation, Quads weight) {
  const I32::Halves x = (I32::Halves)activation.v, w = (I32::Halves)weight.v;
  const I32::Halves pairs = (x & 0xFF) * ((w << 8) >> 8) + (x >> 8) * (w >> 8);
  const I32::Vector wide = (I32::Vector)pairs;
  return {sum.v + ((wide << 16) >> 16) + (wide >> 16)};
}
// 2^23 and more have no fraction: the addition rounds, ties to even.
MAAM_INLINE void StoreRounded(uint8_t* p, F32 x) {
  const I32::Vector bits = (I32::Vector)(x.v + 8388608.0f);
  for (int i = 0; i < 4; ++i) p[i] = static_cast<uint8_t>(bits[i]);
}

#endif

// The first n (< lanes) elements; the other lanes are 0. Touches no byte past them.
MAAM_INLINE I32 LoadFirst(const int32_t* p, int64_t n) {
  int32_t buffer[I32::kLanes] = {};
  std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(int32_t));
  return Load(buffer);
}
MAAM_INLINE void StoreFirstRounded(uint8_t* p, F32 x, int64_t n) {
  uint8_t buffer[F32::kLanes];
  StoreRounded(buffer, x);
  std::memcpy(p, buffer, static_cast<size_t>(n));
}

}  // namespace MAAM_ISA
}  // namespace maam
