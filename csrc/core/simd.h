// Vectors of float32 and float64 for one instruction set. A kernel source includes this after defining MAAM_ISA
// (portable, avx2 or avx512) and is compiled once for each, into a namespace of that name.
//
// Everything is `static inline` and nothing from the standard library's templates is used in kernel sources: a symbol
// shared between translation units could otherwise be taken from the AVX-512 one and crash an older CPU.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/dtype.h"
#include "core/isa.h"

#ifndef MAAM_ISA
#error "define MAAM_ISA before including core/simd.h"
#endif

#define MAAM_JOIN_(a, b) a##_##b
#define MAAM_JOIN(a, b) MAAM_JOIN_(a, b)
#define MAAM_VARIANT(name) MAAM_JOIN(name, MAAM_ISA)  // aggregate_forward -> aggregate_forward_avx2
#define MAAM_INLINE static inline __attribute__((always_inline))
#define MAAM_MEMBER inline __attribute__((always_inline))  // the same for member functions

#if MAAM_X86
#include <immintrin.h>
#endif

namespace maam {
namespace MAAM_ISA {

#if defined(__AVX512F__)

struct F32 {
  using Element = float;
  static constexpr int kLanes = 16;
  __m512 v;
};
struct F64 {
  using Element = double;
  static constexpr int kLanes = 8;
  __m512d v;
};
constexpr int kRegisters = 32;

MAAM_INLINE F32 Set(float x) { return {_mm512_set1_ps(x)}; }
MAAM_INLINE F64 Set(double x) { return {_mm512_set1_pd(x)}; }
MAAM_INLINE F32 Load(const float* p) { return {_mm512_loadu_ps(p)}; }
MAAM_INLINE F64 Load(const double* p) { return {_mm512_loadu_pd(p)}; }
MAAM_INLINE F32 Load(const Half* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
MAAM_INLINE F32 Load(const BFloat16* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
MAAM_INLINE void Store(float* p, F32 x) { _mm512_storeu_ps(p, x.v); }
MAAM_INLINE void Store(double* p, F64 x) { _mm512_storeu_pd(p, x.v); }
MAAM_INLINE void Store(Half* p, F32 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
// By integer arithmetic rather than VCVTNEPS2BF16: that instruction flushes denormals to zero.
MAAM_INLINE void Store(BFloat16* p, F32 x) {
  const __m512i bits = _mm512_castps_si512(x.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
  const __m512i result = _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(result));
}
MAAM_INLINE void Stream(float* p, F32 x) { _mm512_stream_ps(p, x.v); }
MAAM_INLINE void Stream(double* p, F64 x) { _mm512_stream_pd(p, x.v); }
MAAM_INLINE F32 Add(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
MAAM_INLINE F64 Add(F64 a, F64 b) { return {_mm512_add_pd(a.v, b.v)}; }
MAAM_INLINE F32 Sub(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
MAAM_INLINE F64 Sub(F64 a, F64 b) { return {_mm512_sub_pd(a.v, b.v)}; }
MAAM_INLINE F32 Mul(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
MAAM_INLINE F32 Div(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
MAAM_INLINE F32 Sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
MAAM_INLINE F64 Mul(F64 a, F64 b) { return {_mm512_mul_pd(a.v, b.v)}; }
MAAM_INLINE F32 Fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
MAAM_INLINE F64 Fma(F64 a, F64 b, F64 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
// a where a > b, else b: b where either is NaN.
MAAM_INLINE F32 Max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
// value where condition > 0, else 0: a NaN condition gives 0, as MindSpore's CPU ReLU does.
MAAM_INLINE F32 WherePositive(F32 condition, F32 value) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(condition.v, _mm512_setzero_ps(), _CMP_GT_OQ), value.v)};
}
MAAM_INLINE F64 WherePositive(F64 condition, F64 value) {
  return {_mm512_maskz_mov_pd(_mm512_cmp_pd_mask(condition.v, _mm512_setzero_pd(), _CMP_GT_OQ), value.v)};
}
// x where a > b, else y.
MAAM_INLINE F32 WhereGreater(F32 a, F32 b, F32 x, F32 y) {
  return {_mm512_mask_mov_ps(y.v, _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ), x.v)};
}
// value where a == b, else 0.
MAAM_INLINE F32 WhereEqual(F32 a, F32 b, F32 value) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ), value.v)};
}
// Small whole numbers, a byte each in memory.
MAAM_INLINE F32 LoadBytes(const uint8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
MAAM_INLINE void StoreBytes(uint8_t* p, F32 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x.v)));
}
// max(x, 0), and 0 for a NaN: the instruction then returns its second operand.
MAAM_INLINE F32 Relu(F32 x) { return {_mm512_max_ps(x.v, _mm512_setzero_ps())}; }
MAAM_INLINE F64 Relu(F64 x) { return {_mm512_max_pd(x.v, _mm512_setzero_pd())}; }
// a0 b0 a1 b1 ... of the lower and of the upper halves.
MAAM_INLINE F32 ZipLow(F32 a, F32 b) {
  const __m512i order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  return {_mm512_permutex2var_ps(a.v, order, b.v)};
}
MAAM_INLINE F32 ZipHigh(F32 a, F32 b) {
  const __m512i order = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  return {_mm512_permutex2var_ps(a.v, order, b.v)};
}
MAAM_INLINE F64 ZipLow(F64 a, F64 b) {
  return {_mm512_permutex2var_pd(a.v, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), b.v)};
}
MAAM_INLINE F64 ZipHigh(F64 a, F64 b) {
  return {_mm512_permutex2var_pd(a.v, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), b.v)};
}

#elif defined(__AVX2__)

struct F32 {
  using Element = float;
  static constexpr int kLanes = 8;
  __m256 v;
};
struct F64 {
  using Element = double;
  static constexpr int kLanes = 4;
  __m256d v;
};
constexpr int kRegisters = 16;

MAAM_INLINE F32 Set(float x) { return {_mm256_set1_ps(x)}; }
MAAM_INLINE F64 Set(double x) { return {_mm256_set1_pd(x)}; }
MAAM_INLINE F32 Load(const float* p) { return {_mm256_loadu_ps(p)}; }
MAAM_INLINE F64 Load(const double* p) { return {_mm256_loadu_pd(p)}; }
MAAM_INLINE F32 Load(const Half* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
MAAM_INLINE F32 Load(const BFloat16* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))};
}
MAAM_INLINE void Store(float* p, F32 x) { _mm256_storeu_ps(p, x.v); }
MAAM_INLINE void Store(double* p, F64 x) { _mm256_storeu_pd(p, x.v); }
MAAM_INLINE void Store(Half* p, F32 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}
MAAM_INLINE void Store(BFloat16* p, F32 x) {
  const __m256i bits = _mm256_castps_si256(x.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q));
  const __m256i result = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1)));
}
MAAM_INLINE void Stream(float* p, F32 x) { _mm256_stream_ps(p, x.v); }
MAAM_INLINE void Stream(double* p, F64 x) { _mm256_stream_pd(p, x.v); }
MAAM_INLINE F32 Add(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
MAAM_INLINE F64 Add(F64 a, F64 b) { return {_mm256_add_pd(a.v, b.v)}; }
MAAM_INLINE F32 Sub(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
MAAM_INLINE F64 Sub(F64 a, F64 b) { return {_mm256_sub_pd(a.v, b.v)}; }
MAAM_INLINE F32 Mul(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
MAAM_INLINE F32 Div(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
MAAM_INLINE F32 Sqrt(F32 a) { return {_mm256_sqrt_ps(a.v)}; }
MAAM_INLINE F64 Mul(F64 a, F64 b) { return {_mm256_mul_pd(a.v, b.v)}; }
MAAM_INLINE F32 Fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
MAAM_INLINE F64 Fma(F64 a, F64 b, F64 c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
MAAM_INLINE F32 Max(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
MAAM_INLINE F32 WherePositive(F32 condition, F32 value) {
  return {_mm256_and_ps(_mm256_cmp_ps(condition.v, _mm256_setzero_ps(), _CMP_GT_OQ), value.v)};
}
MAAM_INLINE F64 WherePositive(F64 condition, F64 value) {
  return {_mm256_and_pd(_mm256_cmp_pd(condition.v, _mm256_setzero_pd(), _CMP_GT_OQ), value.v)};
}
MAAM_INLINE F32 WhereGreater(F32 a, F32 b, F32 x, F32 y) {
  return {_mm256_blendv_ps(y.v, x.v, _mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ))};
}
MAAM_INLINE F32 WhereEqual(F32 a, F32 b, F32 value) {
  return {_mm256_and_ps(_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ), value.v)};
}
MAAM_INLINE F32 LoadBytes(const uint8_t* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
}
MAAM_INLINE void StoreBytes(uint8_t* p, F32 x) {
  const __m256i whole = _mm256_cvtps_epi32(x.v);
  const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(halves, halves));
}
MAAM_INLINE F32 Relu(F32 x) { return {_mm256_max_ps(x.v, _mm256_setzero_ps())}; }
MAAM_INLINE F64 Relu(F64 x) { return {_mm256_max_pd(x.v, _mm256_setzero_pd())}; }
MAAM_INLINE F32 ZipLow(F32 a, F32 b) {
  return {_mm256_permute2f128_ps(_mm256_unpacklo_ps(a.v, b.v), _mm256_unpackhi_ps(a.v, b.v), 0x20)};
}
MAAM_INLINE F32 ZipHigh(F32 a, F32 b) {
  return {_mm256_permute2f128_ps(_mm256_unpacklo_ps(a.v, b.v), _mm256_unpackhi_ps(a.v, b.v), 0x31)};
}
MAAM_INLINE F64 ZipLow(F64 a, F64 b) {
  return {_mm256_permute2f128_pd(_mm256_unpacklo_pd(a.v, b.v), _mm256_unpackhi_pd(a.v, b.v), 0x20)};
}
MAAM_INLINE F64 ZipHigh(F64 a, F64 b) {
  return {_mm256_permute2f128_pd(_mm256_unpacklo_pd(a.v, b.v), _mm256_unpackhi_pd(a.v, b.v), 0x31)};
}

#else

// GCC/Clang vector extensions: SSE2 on x86-64, NEON on aarch64, plain code elsewhere. No fused multiply-add: the
// x86-64 baseline has none, and a call into libm would cost a hundred times the product.
struct F32 {
  using Element = float;
  static constexpr int kLanes = 4;
  typedef float Vector __attribute__((vector_size(16)));
  Vector v;
};
struct F64 {
  using Element = double;
  static constexpr int kLanes = 2;
  typedef double Vector __attribute__((vector_size(16)));
  Vector v;
};
constexpr int kRegisters = 16;

MAAM_INLINE F32 Set(float x) { return {F32::Vector{x, x, x, x}}; }
MAAM_INLINE F64 Set(double x) { return {F64::Vector{x, x}}; }
template <class V>
MAAM_INLINE V LoadVector(const typename V::Element* p) {
  V x;
  std::memcpy(&x.v, p, sizeof x.v);
  return x;
}
MAAM_INLINE F32 Load(const float* p) { return LoadVector<F32>(p); }
MAAM_INLINE F64 Load(const double* p) { return LoadVector<F64>(p); }
MAAM_INLINE F32 Load(const Half* p) {
  return {F32::Vector{ToFloat(p[0]), ToFloat(p[1]), ToFloat(p[2]), ToFloat(p[3])}};
}
MAAM_INLINE F32 Load(const BFloat16* p) {
  return {F32::Vector{ToFloat(p[0]), ToFloat(p[1]), ToFloat(p[2]), ToFloat(p[3])}};
}
MAAM_INLINE void Store(float* p, F32 x) { std::memcpy(p, &x.v, sizeof x.v); }
MAAM_INLINE void Store(double* p, F64 x) { std::memcpy(p, &x.v, sizeof x.v); }
MAAM_INLINE void Store(Half* p, F32 x) {
  for (int i = 0; i < 4; ++i) Assign(p[i], x.v[i]);
}
MAAM_INLINE void Store(BFloat16* p, F32 x) {
  for (int i = 0; i < 4; ++i) Assign(p[i], x.v[i]);
}
MAAM_INLINE void Stream(float* p, F32 x) { Store(p, x); }
MAAM_INLINE void Stream(double* p, F64 x) { Store(p, x); }
MAAM_INLINE F32 Add(F32 a, F32 b) { return {a.v + b.v}; }
MAAM_INLINE F64 Add(F64 a, F64 b) { return {a.v + b.v}; }
MAAM_INLINE F32 Sub(F32 a, F32 b) { return {a.v - b.v}; }
MAAM_INLINE F64 Sub(F64 a, F64 b) { return {a.v - b.v}; }
MAAM_INLINE F32 Mul(F32 a, F32 b) { return {a.v * b.v}; }
MAAM_INLINE F32 Div(F32 a, F32 b) { return {a.v / b.v}; }
MAAM_INLINE F32 Sqrt(F32 a) {
  return {
      F32::Vector{__builtin_sqrtf(a.v[0]), __builtin_sqrtf(a.v[1]), __builtin_sqrtf(a.v[2]), __builtin_sqrtf(a.v[3])}};
}
MAAM_INLINE F64 Mul(F64 a, F64 b) { return {a.v * b.v}; }
MAAM_INLINE F32 Fma(F32 a, F32 b, F32 c) { return {a.v * b.v + c.v}; }
MAAM_INLINE F64 Fma(F64 a, F64 b, F64 c) { return {a.v * b.v + c.v}; }
MAAM_INLINE F32 Max(F32 a, F32 b) { return {a.v > b.v ? a.v : b.v}; }
MAAM_INLINE F32 WherePositive(F32 condition, F32 value) {
  typedef int32_t Mask __attribute__((vector_size(16)));
  const Mask keep = condition.v > F32::Vector{};
  return {(F32::Vector)((Mask)value.v & keep)};
}
MAAM_INLINE F64 WherePositive(F64 condition, F64 value) {
  typedef int64_t Mask __attribute__((vector_size(16)));
  const Mask keep = condition.v > F64::Vector{};
  return {(F64::Vector)((Mask)value.v & keep)};
}
MAAM_INLINE F32 WhereGreater(F32 a, F32 b, F32 x, F32 y) { return {a.v > b.v ? x.v : y.v}; }
MAAM_INLINE F32 WhereEqual(F32 a, F32 b, F32 value) { return {a.v == b.v ? value.v : F32::Vector{}}; }
MAAM_INLINE F32 LoadBytes(const uint8_t* p) {
  return {F32::Vector{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]),
                      static_cast<float>(p[3])}};
}
MAAM_INLINE void StoreBytes(uint8_t* p, F32 x) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<uint8_t>(x.v[i]);
}
MAAM_INLINE F32 Relu(F32 x) { return WherePositive(x, x); }
MAAM_INLINE F64 Relu(F64 x) { return WherePositive(x, x); }
MAAM_INLINE F32 ZipLow(F32 a, F32 b) { return {F32::Vector{a.v[0], b.v[0], a.v[1], b.v[1]}}; }
MAAM_INLINE F32 ZipHigh(F32 a, F32 b) { return {F32::Vector{a.v[2], b.v[2], a.v[3], b.v[3]}}; }
MAAM_INLINE F64 ZipLow(F64 a, F64 b) { return {F64::Vector{a.v[0], b.v[0]}}; }
MAAM_INLINE F64 ZipHigh(F64 a, F64 b) { return {F64::Vector{a.v[1], b.v[1]}}; }

#endif

// The vector a kernel computes in for data of type T.
template <class T>
struct ComputeOf {
  using Vector = F32;
};
template <>
struct ComputeOf<double> {
  using Vector = F64;
};
template <class T>
using Vec = typename ComputeOf<T>::Vector;

// Streaming stores need aligned addresses; halves have none here.
template <class T>
struct CanStream {
  static constexpr bool value = false;
};
template <>
struct CanStream<float> {
  static constexpr bool value = true;
};
template <>
struct CanStream<double> {
  static constexpr bool value = true;
};

// The first n (< lanes) elements; the other lanes are 0. Touches no byte past them.
template <class T>
MAAM_INLINE Vec<T> LoadFirst(const T* p, int64_t n) {
  T buffer[Vec<T>::kLanes] = {};
  std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(T));
  return Load(buffer);
}
template <class T>
MAAM_INLINE void StoreFirst(T* p, Vec<T> x, int64_t n) {
  T buffer[Vec<T>::kLanes];
  Store(buffer, x);
  std::memcpy(p, buffer, static_cast<size_t>(n) * sizeof(T));
}
#if defined(__AVX512F__)  // masked accesses touch no other byte either, and need no trip through the stack
MAAM_INLINE F32 LoadFirst(const float* p, int64_t n) {
  return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p)};
}
MAAM_INLINE F64 LoadFirst(const double* p, int64_t n) {
  return {_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1), p)};
}
MAAM_INLINE void StoreFirst(float* p, F32 x, int64_t n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), x.v);
}
MAAM_INLINE void StoreFirst(double* p, F64 x, int64_t n) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1), x.v);
}
#endif

// Sum of the lanes in double, always in the same order.
template <class V>
MAAM_INLINE double SumLanes(V x) {
  typename V::Element lanes[V::kLanes];
  Store(lanes, x);
  double sum = 0;
  for (int i = 0; i < V::kLanes; ++i) sum += static_cast<double>(lanes[i]);
  return sum;
}

// Lane i of the result is the sum of the lanes of x[i]. Every sum takes the same tree. A template for each level: GCC
// does not unroll a loop that halves its counter, and would keep the vectors on the stack.
template <class V, int kCount>
MAAM_INLINE V SumEach(const V (&x)[kCount]) {
  if constexpr (kCount == 1) {
    return x[0];
  } else {
    V half[kCount / 2];
#pragma GCC unroll 8
    for (int i = 0; i < kCount / 2; ++i) {
      half[i] = Add(ZipLow(x[i], x[i + kCount / 2]), ZipHigh(x[i], x[i + kCount / 2]));
    }
    return SumEach(half);
  }
}

// Asks for the cache lines of [p, p + bytes) to be brought into the L2 cache.
MAAM_INLINE void Prefetch(const void* p, int64_t bytes) {
  const char* first = static_cast<const char*>(p);
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(first + i, 0, 2);
  __builtin_prefetch(first + bytes - 1, 0, 2);
}

// Streaming stores are weakly ordered: a fence before another thread is told that the data is there.
MAAM_INLINE void FenceStreams() {
#if MAAM_X86
  _mm_sfence();
#endif
}

}  // namespace MAAM_ISA
}  // namespace maam
