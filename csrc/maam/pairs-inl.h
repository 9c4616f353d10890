// Inference by products of pairs of bfloat16, twice those of float32 a cycle, where images and all convolution weights
// are of that type. Weights and pixels are taken as they are, so that the convolutions of the branches round in their
// float32 sums alone, and G is rounded to bfloat16 once. The instruction takes denormals for zero.
#pragma once

#include "maam/stage-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_module {

constexpr int kPairVectors = 4;  // of pooled pixels, by kGroup outputs of the 1x1 convolution, in registers at a time
static_assert(kChannels == kGroup);

MAAM_INLINE V MultiplyAdd(__m512i x, uint32_t weights, V sum) {
  const __m512i both = _mm512_set1_epi32(static_cast<int>(weights));
  return {_mm512_dpbf16_ps(sum.v, (__m512bh)x, (__m512bh)both)};
}

// Of numbers that are bfloat16 already.
MAAM_INLINE __m512i PairOf(V first, V second) {
  return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(first.v), 16), _mm512_castps_si512(second.v));
}

MAAM_INLINE __m256i Rounded(V x) { return (__m256i)_mm512_cvtneps_pbh(x.v); }

MAAM_INLINE V RoundedPair(V first, V second) {
  const __m512i low = _mm512_cvtepu16_epi32(Rounded(first));
  const __m512i high = _mm512_cvtepu16_epi32(Rounded(second));
  return {_mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)))};
}

// The first `count` lanes. By the instruction in the last vector of a strip, too: where that is depends on the threads,
// and Store() of simd.h, which costs 4 % of the whole call, keeps denormals.
MAAM_INLINE void StoreRounded(BFloat16* to, V x, int64_t count) {
  if (count >= V::kLanes) return _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), Rounded(x));
  BFloat16 lanes[V::kLanes];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), Rounded(x));
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

// What the taps read for a vector of pooled pixels, by pairs of taps: (pairs, pixels of a pooled one, lanes).
static void FillPatch(const FoldedBranch& branch, const float* cell, uint32_t* patch) {
  const int64_t* offset = branch.offset;
  for (int64_t t = 0; t < branch.taps; t += 2, offset += 2 * kPool) {
    for (int i = 0; i < kPool; ++i, patch += V::kLanes) {
      const V second = t + 1 < branch.taps ? Load(cell + offset[kPool + i]) : Set(0.0f);
      _mm512_storeu_si512(patch, PairOf(Load(cell + offset[i]), second));
    }
  }
}

// A branch for kChannels channels and one vector of pooled pixels, added to `sum`. The sign of a scale stands in the
// weights: the pooling comes before it.
MAAM_INLINE void AddBranch(const FoldedBranch& branch, int64_t c, const uint32_t* patch, V (&sum)[kChannels]) {
  V z[kChannels][kPool];
#pragma GCC unroll 4
  for (int i = 0; i < kChannels; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kPool; ++j) z[i][j] = Set(0.0f);
  }
  const int64_t pairs = PairsOf(branch.taps);
  const uint32_t* weight = branch.pairs.weight + c * pairs;
  for (int64_t t = 0; t < pairs; ++t, weight += kGroup, patch += kPool * V::kLanes) {
    __m512i x[kPool];
#pragma GCC unroll 4
    for (int j = 0; j < kPool; ++j) x[j] = _mm512_loadu_si512(patch + j * V::kLanes);
#pragma GCC unroll 4
    for (int i = 0; i < kChannels; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kPool; ++j) z[i][j] = MultiplyAdd(x[j], weight[i], z[i][j]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kChannels; ++i) {
    // Max takes its second operand where the first is NaN, so that a NaN counts as "not above zero".
    V top = Set(-__builtin_inff());
#pragma GCC unroll 4
    for (int j = 0; j < kPool; ++j) top = Max(z[i][j], top);
    sum[i] = Add(sum[i], Relu(Fma(top, Set(branch.pairs.scale[c + i]), Set(branch.shift[c + i]))));
  }
}

// G of the strip, rounded: a row of the panel for each pair of channels.
static void FillPairs(const MaamPlan& plan, int64_t rows, const float* planes, uint32_t* patches, float* panel) {
  const int64_t vectors = plan.VectorsOf(rows);
  const int64_t count = rows * plan.pooled_width;
  for (int64_t v = 0; v < vectors; ++v) {
    for (int k = 0; k < plan.p.branches; ++k) {
      const FoldedBranch& branch = plan.branch[k];
      if (!branch.pairs.fills) continue;
      FillPatch(branch, planes + plan.Origin() + plan.vector[v].cell, patches + branch.pairs.patch);
    }
    for (int64_t c = 0; c < plan.groups * kGroup; c += kChannels) {
      V sum[kChannels];
#pragma GCC unroll 4
      for (int i = 0; i < kChannels; ++i) sum[i] = Set(0.0f);
      for (int k = 0; k < plan.p.branches; ++k) {
        AddBranch(plan.branch[k], c, patches + plan.branch[k].pairs.patch, sum);
      }
#pragma GCC unroll 2
      for (int i = 0; i < kChannels; i += 2) {
        StoreRuns(plan, plan.vector[v], RoundedPair(sum[i], sum[i + 1]), count, panel + (c + i) / 2 * plan.columns);
      }
    }
  }
}

// kGroup rows of the 1x1 convolution and kVectors vectors of F. A function of its own: see ProjectBlock.
template <int kVectors>
static __attribute__((noinline)) void ProjectPairs(const MaamPlan& plan, const float* panel, int64_t first,
                                                   int64_t count, BFloat16* to, int64_t to_stride) {
  V sum[kGroup][kVectors];
  const int64_t depth = PairsOf(plan.p.channels);
  const int64_t rows = plan.p.outputs - first < kGroup ? plan.p.outputs - first : kGroup;
  const uint32_t* weight[kGroup];
#pragma GCC unroll 4
  for (int r = 0; r < kGroup; ++r) {
    weight[r] = plan.pairs.weight + (first + (r < rows ? r : rows - 1)) * depth;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Set(0.0f);
  }
  for (int64_t k = 0; k < depth; ++k, panel += plan.columns) {
    __m512i column[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) column[v] = _mm512_loadu_si512(panel + v * V::kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < kGroup; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = MultiplyAdd(column[v], weight[r][k], sum[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kGroup; ++r, to += to_stride) {
    if (r >= rows) break;
    const V scale = Set(plan.pairs.scale[first + r]), shift = Set(plan.shift[first + r]);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      StoreRounded(to + v * V::kLanes, Relu(Fma(sum[r][v], scale, shift)), count - v * V::kLanes);
    }
  }
}

// F of a strip from its panel.
static void ProjectStrip(const MaamPlan& plan, int64_t image, int64_t row, int64_t rows, const float* panel) {
  const int64_t pixels = plan.pooled_height * plan.pooled_width;
  const int64_t count = rows * plan.pooled_width;
  BFloat16* f = static_cast<BFloat16*>(plan.p.f) + image * plan.p.outputs * pixels + row * plan.pooled_width;
  constexpr int64_t kAtOnce = kPairVectors * V::kLanes;
  for (int64_t first = 0; first < plan.p.outputs; first += kGroup, f += kGroup * pixels) {
    int64_t x = 0;
    for (; x + kAtOnce <= RoundUp(count, V::kLanes); x += kAtOnce) {
      ProjectPairs<kPairVectors>(plan, panel + x, first, count - x, f + x, pixels);
    }
    for (; x < count; x += V::kLanes) ProjectPairs<1>(plan, panel + x, first, count - x, f + x, pixels);
  }
}

}  // namespace maam_module
}  // namespace MAAM_ISA

void MAAM_VARIANT(maam_inference)(const MaamPlan& plan, int64_t image, int64_t row, int64_t rows, char* scratch) {
  using namespace MAAM_ISA::maam_module;
  float* planes = reinterpret_cast<float*>(scratch);
  float* panel = reinterpret_cast<float*>(scratch + plan.PanelOffset());
  StageStrip(plan, nullptr, image, row, rows, planes);
  FillPairs(plan, rows, planes, reinterpret_cast<uint32_t*>(scratch + plan.PointsOffset()), panel);
  ProjectStrip(plan, image, row, rows, panel);
}

}  // namespace maam
