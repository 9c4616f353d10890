// Inference, written once and compiled for each instruction set.
#pragma once

#include "maam/winograd-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_module {

// Folded convolution, normalisation, ReLU and max-pool of one branch for kChannels channels and one vector of pooled
// pixels, added to `sum`.
MAAM_INLINE void AddBranch(const FoldedBranch& branch, int64_t c, const float* cell, V (&sum)[kChannels]) {
  V z[kChannels][kPool];
  Convolve(branch, c, cell, z);
  const float* shift = branch.shift + c;
#pragma GCC unroll 8
  for (int i = 0; i < kChannels; ++i) {
    // Max takes its second operand where the first is NaN, so that a NaN counts as "not above zero".
    V top = Set(-shift[i]);
#pragma GCC unroll 4
    for (int j = 0; j < kPool; ++j) top = Max(z[i][j], top);
    const V pooled = Add(top, Set(shift[i]));
    sum[i] = Add(sum[i], WherePositive(pooled, pooled));
  }
}

// G of the strip, a row of the panel for each channel: the branches that go by their taps, or all of them, added to
// what the others left there.
static void FillByTaps(const MaamPlan& plan, bool all, int64_t rows, const float* planes, float* panel) {
  const int64_t vectors = plan.VectorsOf(rows);
  const int64_t count = rows * plan.pooled_width;
  for (int64_t c = 0; c < plan.p.channels; c += kChannels) {
    const int64_t left = plan.p.channels - c;
    for (int64_t v = 0; v < vectors; ++v) {
      float* row = panel + c * plan.columns;
      V sum[kChannels];
#pragma GCC unroll 8
      for (int i = 0; i < kChannels; ++i) {
        sum[i] = all || i >= left ? Set(0.0f) : LoadRuns(plan, plan.vector[v], count, row + i * plan.columns);
      }
      for (int k = 0; k < plan.p.branches; ++k) {
        if (!all && plan.branch[k].points != nullptr) continue;
        AddBranch(plan.branch[k], c, planes + plan.Origin() + plan.vector[v].cell, sum);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kChannels; ++i) {
        if (i < left) StoreRuns(plan, plan.vector[v], sum[i], count, row + i * plan.columns);
      }
    }
  }
}

// G of the strip. Where a pixel of the image is infinite, undefined or huge, all of it goes by the taps: a transform
// would spread it over the pixels around.
static void FillPanel(const MaamPlan& plan, int64_t image, int64_t rows, const float* planes, float* points,
                      float* panel) {
  bool any = false, every = true;
  for (int k = 0; k < plan.p.branches; ++k) {
    any = any || plan.branch[k].points != nullptr;
    every = every && plan.branch[k].points != nullptr;
  }
  if (!any || !IsModerate(plan, image)) return FillByTaps(plan, true, rows, planes, panel);
  TransformPixels(plan, rows, planes, points);
  FillByPoints(plan, rows, points, panel);
  if (!every) FillByTaps(plan, false, rows, planes, panel);
}

// Takes the rows of the 1x1 convolution to F.
template <class T>
class Finish {
 public:
  Finish(const MaamPlan& plan, int64_t image, int64_t row, int64_t rows)
      : shift_(plan.shift),
        pixels_(plan.pooled_height * plan.pooled_width),
        count_(rows * plan.pooled_width),
        to_(static_cast<T*>(plan.p.f) + image * plan.p.outputs * pixels_ + row * plan.pooled_width) {}

  MAAM_MEMBER void Idle() {}

  template <int kVectors>
  MAAM_MEMBER void Take(int64_t first, int r, int64_t x, const V (&z)[kVectors]) {
    const V shift = Set(shift_[first + r]);
    T* to = to_ + (first + r) * pixels_ + x;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v, to += V::kLanes, x += V::kLanes) {
      const V y = Add(z[v], shift);
      const V f = WherePositive(y, y);
      if (x + V::kLanes <= count_) {
        Store(to, f);
      } else if (x < count_) {
        StoreFirst(to, f, count_ - x);
      }
    }
  }

 private:
  const float* shift_;
  const int64_t pixels_;
  const int64_t count_;
  T* to_;
};

// A few rows of the 1x1 convolution. A function of its own: inside the whole strip's, GCC kept the sums on the stack,
// which made it twice as slow.
template <int kVectors, class T>
static __attribute__((noinline)) void ProjectBlock(const float* const (&weight)[Block<V>::kRows], int64_t depth,
                                                   const float* panel, int64_t stride, int64_t first, int64_t rows,
                                                   int64_t x, Finish<T>& finish) {
  V sum[Block<V>::kRows][kVectors];
  BlockProduct<V>(weight, depth, panel + x, stride, sum, finish);
#pragma GCC unroll 8
  for (int r = 0; r < Block<V>::kRows; ++r) {
    if (r < rows) finish.Take(first, r, x, sum[r]);
  }
}

// F of a strip from its panel.
template <class T>
static void Project(const MaamPlan& plan, int64_t image, int64_t row, int64_t rows, const float* panel) {
  using B = Block<V>;
  Finish<T> finish(plan, image, row, rows);
  const int64_t columns = RoundUp(rows * plan.pooled_width, V::kLanes);
  for (int64_t first = 0; first < plan.p.outputs; first += B::kRows) {
    const int64_t left = plan.p.outputs - first < B::kRows ? plan.p.outputs - first : B::kRows;
    const float* weight[B::kRows];
    for (int r = 0; r < B::kRows; ++r) weight[r] = plan.weight + (first + (r < left ? r : left - 1)) * plan.p.channels;
    int64_t x = 0;
    for (; x + B::kColumns <= columns; x += B::kColumns) {
      ProjectBlock<B::kVectors>(weight, plan.p.channels, panel, plan.columns, first, left, x, finish);
    }
    for (; x < columns; x += V::kLanes) {
      ProjectBlock<1>(weight, plan.p.channels, panel, plan.columns, first, left, x, finish);
    }
  }
}

}  // namespace maam_module
}  // namespace MAAM_ISA
}  // namespace maam
