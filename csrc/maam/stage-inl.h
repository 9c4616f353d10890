// What forward and backward begin with: the rows of a strip in planes, and the convolution of a vector of pooled
// pixels. Compiled for each instruction set.
#pragma once

#include "core/tile-inl.h"
#include "maam/kernels.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_module {

using V = F32;

// Channels whose four pooled pixels are in registers at a time.
constexpr int kChannels = kRegisters == 32 ? 4 : 2;

// row[0..count) = every second element of `from` less center; then what a zero becomes, up to `cells`.
MAAM_INLINE void StageRow(const float* from, int64_t count, float center, float* row, int64_t cells) {
  for (int64_t x = 0; x < count; ++x) row[x] = from[2 * x] - center;
  for (int64_t x = count; x < cells; ++x) row[x] = -center;
}

// The rows of an image that a strip's taps reach, in planes by the parity of row and column, zeros around them; all
// less center[input], if there is one.
static void StageStrip(const MaamPlan& plan, const float* center, int64_t image, int64_t first, int64_t rows,
                       float* planes) {
  const MaamInference& p = plan.p;
  for (int64_t i = 0; i < p.inputs * kPool; ++i) {
    const int64_t odd_row = i / 2 % 2;
    const int64_t odd_column = i % 2;
    const float less = center != nullptr ? center[i / kPool] : 0;
    const float* channel = p.x + (image * p.inputs + i / kPool) * p.height * p.width;
    float* origin = planes + i * plan.plane + plan.Origin();
    for (int64_t x = 0; x < plan.border; ++x) origin[x - plan.border * plan.stride - plan.border] = -less;
    for (int64_t r = -plan.border; r < rows + plan.border; ++r) {
      const int64_t y = 2 * (first + r) + odd_row;
      const bool inside = y >= 0 && y < p.height;
      StageRow(inside ? channel + y * p.width + odd_column : nullptr, inside ? (p.width + 1 - odd_column) / 2 : 0, less,
               origin + r * plan.stride, plan.stride);
    }
  }
}

// z[c][i] = the folded convolution of kChannels channels at the i-th of the four pixels of each pooled one.
MAAM_INLINE void Convolve(const FoldedBranch& branch, const float* weight, const float* cell,
                          V (&z)[kChannels][kPool]) {
#pragma GCC unroll 8
  for (int c = 0; c < kChannels; ++c) {
#pragma GCC unroll 4
    for (int i = 0; i < kPool; ++i) z[c][i] = Set(0.0f);
  }
  const int64_t* offset = branch.offset;
  for (int64_t t = 0; t < branch.taps; ++t, offset += kPool, weight += kGroup) {
    V x[kPool];
#pragma GCC unroll 4
    for (int i = 0; i < kPool; ++i) x[i] = Load(cell + offset[i]);
#pragma GCC unroll 8
    for (int c = 0; c < kChannels; ++c) {
      const V w = Set(weight[c]);
#pragma GCC unroll 4
      for (int i = 0; i < kPool; ++i) z[c][i] = Fma(w, x[i], z[c][i]);
    }
  }
}

// The weights of kChannels channels, c on.
MAAM_INLINE const float* WeightOf(const FoldedBranch& branch, int64_t c) {
  return branch.weight + c / kGroup * branch.taps * kGroup + c % kGroup;
}

// The lanes that are pooled pixels of the strip, whose pixels are `count`: the last vector may reach beyond.
MAAM_INLINE void StoreRuns(const MaamPlan& plan, const CellVector& vector, V x, int64_t count, float* row) {
  const CellRun* run = plan.run + vector.first_run;
  if (vector.runs == 1 && run->count == V::kLanes) return Store(row + run->column, x);
  float lanes[V::kLanes];
  Store(lanes, x);
  for (int64_t i = 0; i < vector.runs && run[i].column < count; ++i) {
    for (int64_t j = 0; j < run[i].count; ++j) row[run[i].column + j] = lanes[run[i].lane + j];
  }
}

}  // namespace maam_module
}  // namespace MAAM_ISA
}  // namespace maam
