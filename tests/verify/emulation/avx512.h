// AVX-512 on a machine without it: included before everything else in each source for an AVX-512 instruction set (see
// MAAM_OPS_EMULATE_AVX512 in CMakeLists.txt), this gives the intrinsics plain definitions and says, as a compiler with
// the flags would, which extensions are there. SIMDe has most of them; here is what its version 0.7.4 lacks, and what
// it does less strictly than the instruction. An intrinsic that neither has is an error of the compiler about its
// target: define it here, from the manual of the instruction, and add it to tests/verify/runner/vectors.
#pragma once

#include <immintrin.h>  // the compiler's own, while none of the macros below claims AVX-512

#include <cstdint>
#include <cstring>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "the emulation is made of AVX2, FMA and F16C: without them a multiply-add would round twice"
#endif

#ifdef MAAM_EMULATE_AVX512F
#define __AVX512F__ 1
#endif
#ifdef MAAM_EMULATE_AVX512BW
#define __AVX512BW__ 1
#endif
#ifdef MAAM_EMULATE_AVX512DQ
#define __AVX512DQ__ 1
#endif
#ifdef MAAM_EMULATE_AVX512VL
#define __AVX512VL__ 1
#endif
#ifdef MAAM_EMULATE_AVX512VNNI
#define __AVX512VNNI__ 1
#endif
#ifdef MAAM_EMULATE_AVX512BF16
#define __AVX512BF16__ 1
#endif

#define MAAM_EMULATED static inline __attribute__((always_inline))

namespace emulated {

// The elements of a vector as an array.
template <class E, class V>
struct Lanes {
  static constexpr int kCount = sizeof(V) / sizeof(E);
  E at[kCount];
  MAAM_EMULATED Lanes Of(V v) {
    Lanes lanes;
    std::memcpy(lanes.at, &v, sizeof v);
    return lanes;
  }
  inline __attribute__((always_inline)) V Vector() const {
    V v;
    std::memcpy(&v, at, sizeof v);
    return v;
  }
};

// Each element converted to a type that is narrower (what does not fit is cut off) or wider.
template <class To, class ToVector, class From, class FromVector>
MAAM_EMULATED ToVector Convert(FromVector x) {
  const auto from = Lanes<From, FromVector>::Of(x);
  Lanes<To, ToVector> to;
  static_assert(from.kCount == to.kCount);
  for (int i = 0; i < to.kCount; ++i) to.at[i] = static_cast<To>(from.at[i]);
  return to.Vector();
}

template <class Half, class Whole>
MAAM_EMULATED Half HalfOf(Whole x, int half) {
  Half part;
  std::memcpy(&part, reinterpret_cast<const char*>(&x) + half * sizeof part, sizeof part);
  return part;
}
template <class Whole, class Half>
MAAM_EMULATED Whole Join(Half low, Half high) {
  Whole whole;
  std::memcpy(&whole, &low, sizeof low);
  std::memcpy(reinterpret_cast<char*>(&whole) + sizeof low, &high, sizeof high);
  return whole;
}

// Elements whose bit is 0 are 0, and their memory is not read.
template <class V, class E>
MAAM_EMULATED V MaskedLoad(uint64_t mask, const void* p) {
  Lanes<E, V> lanes = {};
  for (int i = 0; i < lanes.kCount; ++i) {
    if (mask >> i & 1) std::memcpy(&lanes.at[i], static_cast<const char*>(p) + i * sizeof(E), sizeof(E));
  }
  return lanes.Vector();
}
template <class V, class E>
MAAM_EMULATED void MaskedStore(void* p, uint64_t mask, V x) {
  const auto lanes = Lanes<E, V>::Of(x);
  for (int i = 0; i < lanes.kCount; ++i) {
    if (mask >> i & 1) std::memcpy(static_cast<char*>(p) + i * sizeof(E), &lanes.at[i], sizeof(E));
  }
}

// The instructions that ask for an aligned address end the process where it is not.
template <class P>
MAAM_EMULATED P* Aligned(P* p) {
  if (reinterpret_cast<uintptr_t>(p) % 64 != 0) __builtin_trap();
  return p;
}

MAAM_EMULATED __m512i CvtPs(__m512 x) {
  return Join<__m512i>(_mm256_cvtps_epi32(HalfOf<__m256>(x, 0)), _mm256_cvtps_epi32(HalfOf<__m256>(x, 1)));
}
MAAM_EMULATED __m512i CvttPs(__m512 x) {
  return Join<__m512i>(_mm256_cvttps_epi32(HalfOf<__m256>(x, 0)), _mm256_cvttps_epi32(HalfOf<__m256>(x, 1)));
}
MAAM_EMULATED __m512i Madd16(__m512i a, __m512i b) {
  return Join<__m512i>(_mm256_madd_epi16(HalfOf<__m256i>(a, 0), HalfOf<__m256i>(b, 0)),
                       _mm256_madd_epi16(HalfOf<__m256i>(a, 1), HalfOf<__m256i>(b, 1)));
}
MAAM_EMULATED __m512 CvtEpi32(__m512i x) {
  return Join<__m512>(_mm256_cvtepi32_ps(HalfOf<__m256i>(x, 0)), _mm256_cvtepi32_ps(HalfOf<__m256i>(x, 1)));
}
MAAM_EMULATED __m512 CvtPh(__m256i x) {
  return Join<__m512>(_mm256_cvtph_ps(HalfOf<__m128i>(x, 0)), _mm256_cvtph_ps(HalfOf<__m128i>(x, 1)));
}
template <int kRounding>  // the bit that silences exceptions has no effect on the result
MAAM_EMULATED __m256i CvtPsPh(__m512 x) {
  return Join<__m256i>(_mm256_cvtps_ph(HalfOf<__m256>(x, 0), kRounding & 7),
                       _mm256_cvtps_ph(HalfOf<__m256>(x, 1), kRounding & 7));
}
MAAM_EMULATED __m512i Srai32(__m512i x, unsigned count) {
  auto lanes = Lanes<int32_t, __m512i>::Of(x);
  for (int32_t& lane : lanes.at) lane >>= count < 31 ? count : 31;
  return lanes.Vector();
}
template <class To, class ToVector>
MAAM_EMULATED ToVector CvtUnsignedSaturating(__m512i x) {
  auto lanes = Lanes<uint32_t, __m512i>::Of(x);
  constexpr uint32_t kMost = static_cast<To>(-1);
  for (uint32_t& lane : lanes.at) lane = lane < kMost ? lane : kMost;
  return Convert<To, ToVector, uint32_t>(lanes.Vector());
}
MAAM_EMULATED int32_t ReduceAdd32(__m512i x) {
  uint32_t sum = 0;
  for (const uint32_t lane : Lanes<uint32_t, __m512i>::Of(x).at) sum += lane;
  return static_cast<int32_t>(sum);
}

// AVX512-BF16 takes no notice of MXCSR: it rounds to nearest even and denormals are zeros, read or written.
MAAM_EMULATED float FlushDenormal(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7F800000u) == 0) bits &= 0x80000000u;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
MAAM_EMULATED float WidenBf16(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return FlushDenormal(wide);
}
MAAM_EMULATED uint16_t NarrowBf16(float x) {
  const float flushed = FlushDenormal(x);
  uint32_t bits;
  std::memcpy(&bits, &flushed, sizeof bits);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
// The odd product of a pair first, then the even one, each accumulated by a fused multiply-add.
MAAM_EMULATED __m512 DpBf16(__m512 sum, __m512bh a, __m512bh b) {
  auto lanes = Lanes<float, __m512>::Of(sum);
  const auto left = Lanes<uint16_t, __m512bh>::Of(a);
  const auto right = Lanes<uint16_t, __m512bh>::Of(b);
  for (int i = 0; i < lanes.kCount; ++i) {
    for (const int j : {2 * i + 1, 2 * i}) {
      const float product = __builtin_fmaf(WidenBf16(left.at[j]), WidenBf16(right.at[j]), FlushDenormal(lanes.at[i]));
      lanes.at[i] = FlushDenormal(product);
    }
  }
  return lanes.Vector();
}
MAAM_EMULATED __m256bh CvtNePs(__m512 x) {
  const auto from = Lanes<float, __m512>::Of(x);
  Lanes<uint16_t, __m256bh> to;
  for (int i = 0; i < to.kCount; ++i) to.at[i] = NarrowBf16(from.at[i]);
  return to.Vector();
}

}  // namespace emulated

#define _mm512_cvtps_epi32 ::emulated::CvtPs
#define _mm512_cvttps_epi32 ::emulated::CvttPs
#define _mm512_cvtepi32_ps ::emulated::CvtEpi32
#define _mm512_cvtph_ps ::emulated::CvtPh
#define _mm512_cvtps_ph(x, rounding) ::emulated::CvtPsPh<rounding>(x)
#define _mm512_cvtepu8_epi16 ::emulated::Convert<uint16_t, __m512i, uint8_t, __m256i>
#define _mm512_cvtepi8_epi32 ::emulated::Convert<int32_t, __m512i, int8_t, __m128i>
#define _mm512_cvtepu8_epi32 ::emulated::Convert<uint32_t, __m512i, uint8_t, __m128i>
#define _mm512_cvtepi16_epi32 ::emulated::Convert<int32_t, __m512i, int16_t, __m256i>
#define _mm512_cvtepu16_epi32 ::emulated::Convert<uint32_t, __m512i, uint16_t, __m256i>
#define _mm512_cvtepi32_epi16 ::emulated::Convert<uint16_t, __m256i, uint32_t, __m512i>
#define _mm512_cvtepi32_epi8 ::emulated::Convert<uint8_t, __m128i, uint32_t, __m512i>
#define _mm512_cvtusepi32_epi16 ::emulated::CvtUnsignedSaturating<uint16_t, __m256i>
#define _mm512_cvtusepi32_epi8 ::emulated::CvtUnsignedSaturating<uint8_t, __m128i>
#define _mm512_srai_epi32 ::emulated::Srai32
#define _mm512_reduce_add_epi32 ::emulated::ReduceAdd32

#define _mm512_maskz_loadu_ps ::emulated::MaskedLoad<__m512, float>
#define _mm512_maskz_loadu_pd ::emulated::MaskedLoad<__m512d, double>
#define _mm512_maskz_loadu_epi8 ::emulated::MaskedLoad<__m512i, int8_t>
#define _mm512_maskz_loadu_epi16 ::emulated::MaskedLoad<__m512i, int16_t>
#define _mm512_maskz_loadu_epi32 ::emulated::MaskedLoad<__m512i, int32_t>
#define _mm512_mask_storeu_ps ::emulated::MaskedStore<__m512, float>
#define _mm512_mask_storeu_pd ::emulated::MaskedStore<__m512d, double>
#define _mm512_mask_storeu_epi8 ::emulated::MaskedStore<__m512i, int8_t>
#define _mm512_mask_storeu_epi16 ::emulated::MaskedStore<__m512i, int16_t>
#define _mm512_mask_storeu_epi32 ::emulated::MaskedStore<__m512i, int32_t>

#undef _mm512_load_ps
#undef _mm512_load_pd
#undef _mm512_load_si512
#undef _mm512_store_ps
#undef _mm512_store_pd
#undef _mm512_store_si512
#define _mm512_load_ps(p) _mm512_loadu_ps(::emulated::Aligned(p))
#define _mm512_load_pd(p) _mm512_loadu_pd(::emulated::Aligned(p))
#define _mm512_load_si512(p) _mm512_loadu_si512(::emulated::Aligned(p))
#define _mm512_store_ps(p, x) _mm512_storeu_ps(::emulated::Aligned(p), x)
#define _mm512_store_pd(p, x) _mm512_storeu_pd(::emulated::Aligned(p), x)
#define _mm512_store_si512(p, x) _mm512_storeu_si512(::emulated::Aligned(p), x)
#define _mm512_stream_ps(p, x) _mm512_storeu_ps(::emulated::Aligned(p), x)
#define _mm512_stream_pd(p, x) _mm512_storeu_pd(::emulated::Aligned(p), x)
#define _mm512_stream_si512(p, x) _mm512_storeu_si512(::emulated::Aligned(p), x)

#undef _mm512_madd_epi16  // an alias of four parameters, and its sum may overflow
#define _mm512_madd_epi16 ::emulated::Madd16
#undef _mm512_dpbf16_ps  // of no defined order, and with denormals
#define _mm512_dpbf16_ps ::emulated::DpBf16
#define _mm512_cvtneps_pbh ::emulated::CvtNePs
#define _mm512_cvtne2ps_pbh(high, low) ::emulated::Join<__m512bh>(::emulated::CvtNePs(low), ::emulated::CvtNePs(high))
