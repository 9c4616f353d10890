// What forward and backward begin with: the rows of a strip in planes, and the convolution of a vector of pooled
// pixels. Compiled for each instruction set.
#pragma once

#include "core/tile-inl.h"
#include "maam/kernels.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_module {

using V = F32;

constexpr int kChannels = static_cast<int>(ChannelsAtOnce(V::kLanes));

// The elements of a row of the image, less center, by turns into the rows of two planes; then what a zero becomes, up
// to `cells`. Whole vectors are written, so that something may land behind: rows are staged in order.
template <class T>
MAAM_INLINE void StageRow(const T* from, int64_t width, float center, float* even, float* odd, int64_t cells) {
  for (int64_t x = 0; x < width; x += 2 * V::kLanes) {
    float pair[2 * V::kLanes];
    for (int64_t i = 0; i < 2 * V::kLanes; i += V::kLanes) {
      const int64_t left = width - x - i;
      const V pixels = left >= V::kLanes ? Load(from + x + i) : left > 0 ? LoadFirst(from + x + i, left) : Set(0.0f);
      Store(pair + i, Sub(pixels, Set(center)));
    }
    for (int64_t i = 0; i < V::kLanes; ++i) even[x / 2 + i] = pair[2 * i];
    for (int64_t i = 0; i < V::kLanes; ++i) odd[x / 2 + i] = pair[2 * i + 1];
  }
  for (int64_t x = (width + 1) / 2; x < cells; ++x) even[x] = -center;
  for (int64_t x = width / 2; x < cells; ++x) odd[x] = -center;
}

// The rows of an image that a strip's taps reach, in planes by the parity of row and column, zeros around them; all
// less center[input], if there is one.
template <class T>
static void StageStripOf(const MaamPlan& plan, const float* center, int64_t image, int64_t first, int64_t rows,
                         float* planes) {
  const MaamInference& p = plan.p;
  for (int64_t i = 0; i < p.inputs * 2; ++i) {
    const float less = center != nullptr ? center[i / 2] : 0;
    const T* channel = static_cast<const T*>(p.x) + (image * p.inputs + i / 2) * p.height * p.width;
    float* even = planes + 2 * i * plan.plane + plan.Origin();
    float* odd = even + plan.plane;
    for (int64_t x = 0; x < plan.border; ++x) {
      even[x - plan.border * plan.stride - plan.border] = odd[x - plan.border * plan.stride - plan.border] = -less;
    }
    for (int64_t r = -plan.border; r < rows + plan.border; ++r) {
      const int64_t y = 2 * (first + r) + i % 2;
      const bool inside = y >= 0 && y < p.height;
      StageRow(inside ? channel + y * p.width : channel, inside ? p.width : 0, less, even + r * plan.stride,
               odd + r * plan.stride, plan.stride);
    }
  }
}

static void StageStrip(const MaamPlan& plan, const float* center, int64_t image, int64_t first, int64_t rows,
                       float* planes) {
  WithSingleType(plan.p.dtype, [&]<class T>(T*) { StageStripOf<T>(plan, center, image, first, rows, planes); });
}

// z[i][j] = the folded convolution of the i-th of kChannels channels, c on, at the j-th of the four pixels of each
// pooled one.
MAAM_INLINE void Convolve(const FoldedBranch& branch, int64_t c, const float* cell, V (&z)[kChannels][kPool]) {
#pragma GCC unroll 8
  for (int i = 0; i < kChannels; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kPool; ++j) z[i][j] = Set(0.0f);
  }
  const float* weight = branch.weight + c * branch.taps;
  const int64_t* offset = branch.offset;
  for (int64_t t = 0; t < branch.taps; ++t, offset += kPool, weight += kChannels) {
    V w[kChannels];
#pragma GCC unroll 8
    for (int i = 0; i < kChannels; ++i) w[i] = Set(weight[i]);
#pragma GCC unroll 4
    for (int j = 0; j < kPool; ++j) {
      const V x = Load(cell + offset[j]);
#pragma GCC unroll 8
      for (int i = 0; i < kChannels; ++i) z[i][j] = Fma(w[i], x, z[i][j]);
    }
  }
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

// The lanes that are pooled pixels of the strip, 0 in the others; see StoreRuns.
MAAM_INLINE V LoadRuns(const MaamPlan& plan, const CellVector& vector, int64_t count, const float* row) {
  const CellRun* run = plan.run + vector.first_run;
  if (vector.runs == 1 && run->count == V::kLanes) return Load(row + run->column);
  float lanes[V::kLanes] = {};
  for (int64_t i = 0; i < vector.runs && run[i].column < count; ++i) {
    for (int64_t j = 0; j < run[i].count; ++j) lanes[run[i].lane + j] = row[run[i].column + j];
  }
  return Load(lanes);
}

}  // namespace maam_module
}  // namespace MAAM_ISA
}  // namespace maam
