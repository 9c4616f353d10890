// Forward of training: branches to G, written once and compiled for each instruction set.
#pragma once

#include "maam/stage-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_module {

// As StoreRuns, a byte for each lane.
MAAM_INLINE void StoreByteRuns(const MaamPlan& plan, const CellVector& vector, V x, int64_t count, uint8_t* row) {
  const CellRun* run = plan.run + vector.first_run;
  if (vector.runs == 1 && run->count == V::kLanes) return StoreBytes(row + run->column, x);
  uint8_t lanes[V::kLanes];
  StoreBytes(lanes, x);
  for (int64_t i = 0; i < vector.runs && run[i].column < count; ++i) {
    for (int64_t j = 0; j < run[i].count; ++j) row[run[i].column + j] = lanes[run[i].lane + j];
  }
}

// The largest of the four pixels of each pooled one, the first of equal ones, and which it is. A NaN is not above any.
MAAM_INLINE V FirstLargest(const V (&z)[kPool], V* pixel) {
  V top = Max(z[0], Set(-__builtin_inff()));
  V at = Set(0.0f);
#pragma GCC unroll 4
  for (int i = 1; i < kPool; ++i) {
    at = WhereGreater(z[i], top, Set(static_cast<float>(i)), at);
    top = Max(z[i], top);
  }
  *pixel = at;
  return top;
}

static void MixStrip(const MaamPlan& plan, const MixedBranches& to, int64_t image, int64_t row, int64_t rows,
                     const float* planes) {
  const MaamInference& p = plan.p;
  const int64_t pixels = plan.pooled_height * plan.pooled_width;
  const int64_t count = rows * plan.pooled_width;
  const int64_t vectors = plan.VectorsOf(rows);
  const V nowhere = Set(static_cast<float>(kNoPixel));
  for (int64_t c = 0; c < p.channels; c += kChannels) {
    const int64_t channels = p.channels - c < kChannels ? p.channels - c : kChannels;
    const int64_t at = (image * p.channels + c) * pixels + row * plan.pooled_width;
    for (int64_t v = 0; v < vectors; ++v) {
      V sum[kChannels];
#pragma GCC unroll 8
      for (int i = 0; i < kChannels; ++i) sum[i] = Set(0.0f);
      for (int k = 0; k < p.branches; ++k) {
        const FoldedBranch& branch = plan.branch[k];
        V z[kChannels][kPool];
        Convolve(branch, c, planes + plan.Origin() + plan.vector[v].cell, z);
        const V mix = Set(to.mix[k]);
        uint8_t* noted = to.pixel + k * p.batch * p.channels * pixels + at;
#pragma GCC unroll 8
        for (int i = 0; i < kChannels; ++i) {
          V pixel;
          const V y = Add(FirstLargest(z[i], &pixel), Set(branch.shift[c + i]));
          sum[i] = Fma(mix, WherePositive(y, y), sum[i]);
          pixel = WhereGreater(y, Set(0.0f), pixel, nowhere);
          if (i < channels) StoreByteRuns(plan, plan.vector[v], pixel, count, noted + i * pixels);
        }
      }
#pragma GCC unroll 8
      for (int i = 0; i < kChannels; ++i) {
        if (i < channels) StoreRuns(plan, plan.vector[v], sum[i], count, to.g + at + i * pixels);
      }
    }
  }
}

}  // namespace maam_module
}  // namespace MAAM_ISA
}  // namespace maam
