// Sums over the pixels of a strip that forward and backward share.
#pragma once

#include "agent_block/plan.h"
#include "core/tile-inl.h"
#include "winograd/first-inl.h"
#include "winograd/training-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace agent_block {

using namespace winograd;

// A worker's working memory.
struct Memory {
  float *bordered, *patch, *map, *gradient, *input, *product;

  Memory(const BlockPlan& plan, char* scratch)
      : bordered(reinterpret_cast<float*>(scratch + plan.bordered)),
        patch(reinterpret_cast<float*>(scratch + plan.patch)),
        map(reinterpret_cast<float*>(scratch + plan.map)),
        gradient(reinterpret_cast<float*>(scratch + plan.gradient)),
        input(reinterpret_cast<float*>(scratch + plan.input)),
        product(reinterpret_cast<float*>(scratch + plan.product)) {}
};

// sums[tap] += sum over the strip's pixels of map times the pixel that tap takes, for one panel of channels and
// kPanelRows taps in registers at a time.
static void AddByTap(const BlockPlan& plan, const Strip& s, const float* patch, const float* map, int64_t channel,
                     float* sums) {
  const Strips& t = plan.strips;
  const int64_t rows = RowsOf(t, s), columns = ColumnsOf(t, s);
  const int64_t taps = plan.first.taps;
  const int64_t vector = t.MapRows() * t.MapStride() * V::kLanes;
  for (int64_t tap = 0; tap < taps; tap += kPanelRows) {
    int64_t offset[kPanelRows];
    for (int r = 0; r < kPanelRows; ++r) offset[r] = plan.first.offset[tap + r < taps ? tap + r : taps - 1];
    V sum[kPanelRows][kPanelVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = Set(0.0f);
    }
    for (int64_t y = 1; y <= rows; ++y) {
      const float* pixel = patch + y * t.PatchStride() + 1;
      const float* value = map + channel / V::kLanes * vector + (y * t.MapStride() + 1) * V::kLanes;
      for (int64_t x = 0; x < columns; ++x, ++pixel, value += V::kLanes) {
        const V a = Load(value), b = Load(value + vector);
#pragma GCC unroll 8
        for (int r = 0; r < kPanelRows; ++r) {
          const V taken = Set(pixel[offset[r]]);
          sum[r][0] = Fma(taken, a, sum[r][0]);
          sum[r][1] = Fma(taken, b, sum[r][1]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kPanelRows; ++r) {
      if (tap + r >= taps) break;
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) {
        float* to = sums + (tap + r) * t.middle + channel + v * V::kLanes;
        Store(to, Add(Load(to), sum[r][v]));
      }
    }
  }
}

}  // namespace agent_block
}  // namespace MAAM_ISA
}  // namespace maam
