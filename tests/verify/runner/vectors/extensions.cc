// The intrinsics of AVX-512 that emulation/avx512.h defines or that kernels for single extensions use, as entry points
// IntrinsicNAME for _mm512_NAME: parameters in the order of the intrinsic, a vector each, then the result.
#ifdef MAAM_EMULATE_AVX512F
#include <cstring>

#include "core/aot.h"

namespace {

template <class V>
V Read(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
void Write(void* p, V v) {
  std::memcpy(p, &v, sizeof v);
}

#define INTRINSIC(name, ...)                                                  \
  int Run##name(int, void** p, int*, int64_t**, const char**, void*, void*) { \
    __VA_ARGS__;                                                              \
    return 0;                                                                 \
  }                                                                           \
  const maam::RegisterAot register##name("Intrinsic" #name, &Run##name);
#define UNARY(name, A) INTRINSIC(name, Write(p[1], _mm512_##name(Read<A>(p[0]))))
#define BINARY(name, A, B) INTRINSIC(name, Write(p[2], _mm512_##name(Read<A>(p[0]), Read<B>(p[1]))))
#define TERNARY(name, A, B, C) INTRINSIC(name, Write(p[3], _mm512_##name(Read<A>(p[0]), Read<B>(p[1]), Read<C>(p[2]))))

TERNARY(dpbusd_epi32, __m512i, __m512i, __m512i)
TERNARY(dpwssd_epi32, __m512i, __m512i, __m512i)
BINARY(maddubs_epi16, __m512i, __m512i)
BINARY(madd_epi16, __m512i, __m512i)
BINARY(add_epi16, __m512i, __m512i)
BINARY(sub_epi16, __m512i, __m512i)
BINARY(add_epi32, __m512i, __m512i)
BINARY(sub_epi32, __m512i, __m512i)
BINARY(mullo_epi32, __m512i, __m512i)
BINARY(max_epi32, __m512i, __m512i)
BINARY(min_epi32, __m512i, __m512i)
BINARY(min_ps, __m512, __m512)
TERNARY(dpbf16_ps, __m512, __m512bh, __m512bh)
UNARY(cvtneps_pbh, __m512)
BINARY(cvtne2ps_pbh, __m512, __m512)
UNARY(cvtps_epi32, __m512)
UNARY(cvttps_epi32, __m512)
UNARY(cvtepi32_ps, __m512i)
UNARY(cvtepi8_epi16, __m256i)
UNARY(cvtepu8_epi16, __m256i)
UNARY(cvtepi8_epi32, __m128i)
UNARY(cvtepu8_epi32, __m128i)
UNARY(cvtepi16_epi32, __m256i)
UNARY(cvtepu16_epi32, __m256i)
UNARY(cvtepi32_epi8, __m512i)
UNARY(cvtepi32_epi16, __m512i)
UNARY(cvtusepi32_epi8, __m512i)
UNARY(cvtusepi32_epi16, __m512i)
UNARY(reduce_add_epi32, __m512i)
INTRINSIC(slli_epi16, Write(p[1], _mm512_slli_epi16(Read<__m512i>(p[0]), 7)))
INTRINSIC(slli_epi32, Write(p[1], _mm512_slli_epi32(Read<__m512i>(p[0]), 7)))
INTRINSIC(srai_epi32, Write(p[1], _mm512_srai_epi32(Read<__m512i>(p[0]), 7)))
// The mask is the second operand; what it leaves out is 0.
#define MASKED(width, Mask)                                                                             \
  INTRINSIC(maskz_loadu_epi##width, Write(p[2], _mm512_maskz_loadu_epi##width(Read<Mask>(p[1]), p[0]))) \
  INTRINSIC(mask_storeu_epi##width, Write(p[2], _mm512_set1_epi32(0));                                  \
            _mm512_mask_storeu_epi##width(p[2], Read<Mask>(p[1]), Read<__m512i>(p[0])))
MASKED(8, __mmask64)
MASKED(16, __mmask32)
MASKED(32, __mmask16)
// Ends the process: the address is not a multiple of 64.
INTRINSIC(stream_ps, _mm512_stream_ps(static_cast<float*>(p[1]) + 1, Read<__m512>(p[0])))

}  // namespace
#endif
