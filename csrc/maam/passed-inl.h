// A vector of the backward's list: of pooled pixels whose gradient is passed on, in order and without gaps, the places
// of the pixels that get it, and the gradients. Passed on is what is not zero, NaN included, and has a noted pixel.
// Whole vectors are written; the count is returned. By masks: a branch each would be foretold badly, and a list written
// element by element, with the place of the next one unknown until then, took three times as long.
#pragma once

#include "core/simd.h"
#include "maam/training.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_module {

using V = F32;

#if defined(__AVX512F__)

MAAM_INLINE int64_t AppendPassed(const float* dg, const uint8_t* pixel, const int32_t* of_pooled, const int32_t* within,
                                 int32_t origin, int32_t* place, float* gradient) {
  const __m512i which = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(pixel)));
  const __m512 d = _mm512_loadu_ps(dg);
  const __mmask16 passed = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(kNoPixel), which) &
                           _mm512_cmp_ps_mask(d, _mm512_setzero_ps(), _CMP_NEQ_UQ);
  const __m512i first = _mm512_add_epi32(_mm512_loadu_si512(of_pooled), _mm512_set1_epi32(origin));
  const __m512i to = _mm512_add_epi32(first, _mm512_permutexvar_epi32(which, _mm512_loadu_si512(within)));
  _mm512_storeu_si512(place, _mm512_maskz_compress_epi32(passed, to));
  _mm512_storeu_ps(gradient, _mm512_maskz_compress_ps(passed, d));
  return __builtin_popcount(passed);
}

#elif defined(__AVX2__)

// For each mask of eight lanes, those that are set, then zeros.
struct Fronts {
  uint8_t lane[256][8];

  constexpr Fronts() : lane{} {
    for (int mask = 0; mask < 256; ++mask) {
      for (int i = 0, count = 0; i < 8; ++i) {
        if (mask >> i & 1) lane[mask][count++] = static_cast<uint8_t>(i);
      }
    }
  }
};
constexpr Fronts kFronts;

MAAM_INLINE int64_t AppendPassed(const float* dg, const uint8_t* pixel, const int32_t* of_pooled, const int32_t* within,
                                 int32_t origin, int32_t* place, float* gradient) {
  const __m256i which = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(pixel)));
  const __m256 d = _mm256_loadu_ps(dg);
  const __m256i noted = _mm256_cmpgt_epi32(_mm256_set1_epi32(kNoPixel), which);
  const __m256 not_zero = _mm256_cmp_ps(d, _mm256_setzero_ps(), _CMP_NEQ_UQ);
  const int passed = _mm256_movemask_ps(_mm256_and_ps(_mm256_castsi256_ps(noted), not_zero));
  const __m256i front = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kFronts.lane[passed])));
  const __m256i first =
      _mm256_add_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(of_pooled)), _mm256_set1_epi32(origin));
  const __m256i from = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(within));
  const __m256i to = _mm256_add_epi32(first, _mm256_permutevar8x32_epi32(from, which));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(place), _mm256_permutevar8x32_epi32(to, front));
  _mm256_storeu_ps(gradient, _mm256_permutevar8x32_ps(d, front));
  return __builtin_popcount(static_cast<unsigned>(passed));
}

#else

MAAM_INLINE int64_t AppendPassed(const float* dg, const uint8_t* pixel, const int32_t* of_pooled, const int32_t* within,
                                 int32_t origin, int32_t* place, float* gradient) {
  int64_t count = 0;
  for (int i = 0; i < V::kLanes; ++i) {
    const bool passed = pixel[i] < kNoPixel && dg[i] != 0;
    place[count] = origin + of_pooled[i] + within[passed ? pixel[i] : 0];
    gradient[count] = dg[i];
    count += passed;
  }
  return count;
}

#endif

}  // namespace maam_module
}  // namespace MAAM_ISA
}  // namespace maam
