// Convolutions of 3x3 in inference by Winograd's F(2x2, 3x3), written once and compiled for each instruction set: 16
// products for the four pixels of a pooled one instead of 36. All branches share the transformed pixels.
#pragma once

#include "maam/stage-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_module {

constexpr int kPointVectors = 2;  // of pooled pixels, in registers at a time

// Whether all pixels of an image are finite and below kModerate.
template <class T>
static bool IsModerateOf(const MaamPlan& plan, int64_t image) {
  const int64_t size = plan.p.inputs * plan.p.height * plan.p.width;
  const T* x = static_cast<const T*>(plan.p.x) + image * size;
  constexpr float kToInfinity = 0x1p127f / kModerate * 2;
  V none = Set(0.0f);  // stays 0, or becomes NaN
  int64_t i = 0;
  for (; i + V::kLanes <= size; i += V::kLanes) none = Fma(Mul(Load(x + i), Set(kToInfinity)), Set(0.0f), none);
  if (i < size) none = Fma(Mul(LoadFirst(x + i, size - i), Set(kToInfinity)), Set(0.0f), none);
  return SumLanes(none) == 0;
}

static bool IsModerate(const MaamPlan& plan, int64_t image) {
  bool moderate = false;
  WithSingleType(plan.p.dtype, [&]<class T>(T*) { moderate = IsModerateOf<T>(plan, image); });
  return moderate;
}

// A row of four pixels at the points 0, 1, -1 and infinity. The last one has its sign changed, so that the way back
// only adds it.
MAAM_INLINE void ToPoints(V& a, V& b, V& c, V& d) {
  const V zero = Sub(a, c), one = Add(b, c), minus = Sub(c, b), last = Sub(d, b);
  a = zero;
  b = one;
  c = minus;
  d = last;
}

// points[v]: of the 4x4 pixels under each pooled pixel of vector v, in the order of PointAt() in plan.cc.
static void TransformPixels(const MaamPlan& plan, int64_t rows, const float* planes, float* points) {
  const int64_t inputs = plan.p.inputs;
  for (int64_t v = 0; v < plan.VectorsOf(rows); ++v, points += plan.PointPixels()) {
    for (int64_t input = 0; input < inputs; ++input) {
      const float* cell = planes + input * kPool * plan.plane + plan.Origin() + plan.vector[v].cell;
      V d[4][4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        // The planes of the other parity begin one pixel before and after the pooled one.
        const float* column = cell + (j + 1) % 2 * plan.plane + (j == 0 ? -1 : j == 3 ? 1 : 0);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          d[i][j] = Load(column + (i + 1) % 2 * 2 * plan.plane + (i == 0 ? -plan.stride : i == 3 ? plan.stride : 0));
        }
        ToPoints(d[0][j], d[1][j], d[2][j], d[3][j]);
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        ToPoints(d[i][0], d[i][1], d[i][2], d[i][3]);
        float* inner = points + (2 * i * inputs + input) * 2 * V::kLanes;
        float* outer = inner + inputs * 2 * V::kLanes;
        Store(inner, d[i][1]);
        Store(inner + V::kLanes, d[i][2]);
        Store(outer, d[i][0]);
        Store(outer + V::kLanes, d[i][3]);
      }
    }
  }
}

// first += and second += the products at two points, summed over the inputs.
template <int kVectors>
MAAM_INLINE void AddPoints(int64_t inputs, const float* x, int64_t x_stride, const float* w,
                           V (&first)[kVectors * kChannels], V (&second)[kVectors * kChannels]) {
  for (int64_t i = 0; i < inputs; ++i, x += 2 * V::kLanes, w += 2 * kChannels) {
#pragma GCC unroll 2
    for (int point = 0; point < 2; ++point) {
      V weight[kChannels];
#pragma GCC unroll 4
      for (int c = 0; c < kChannels; ++c) weight[c] = Set(w[point * kChannels + c]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        const V pixels = Load(x + v * x_stride + point * V::kLanes);
#pragma GCC unroll 4
        for (int c = 0; c < kChannels; ++c) {
          V& sum = point == 0 ? first[v * kChannels + c] : second[v * kChannels + c];
          sum = Fma(pixels, weight[c], sum);
        }
      }
    }
  }
}

// One branch, for kChannels channels and kVectors vectors of pooled pixels, added to `sum`.
template <int kVectors>
MAAM_INLINE void AddBranchByPoints(const float* w, const float* shift, int64_t inputs, const float* x, int64_t x_stride,
                                   V (&sum)[kVectors * kChannels]) {
  constexpr int kSums = kVectors * kChannels;
  V row[4][2][kSums];  // the two columns of the result, for each row of points
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    V left[kSums], right[kSums];
#pragma GCC unroll 8
    for (int u = 0; u < kSums; ++u) left[u] = right[u] = Set(0.0f);
    AddPoints<kVectors>(inputs, x, x_stride, w, left, right);
#pragma GCC unroll 8
    for (int u = 0; u < kSums; ++u) {
      const V one = left[u], minus = right[u];
      left[u] = Add(one, minus);
      right[u] = Sub(one, minus);
    }
    x += inputs * 2 * V::kLanes;
    w += inputs * 2 * kChannels;
    AddPoints<kVectors>(inputs, x, x_stride, w, left, right);
    x += inputs * 2 * V::kLanes;
    w += inputs * 2 * kChannels;
#pragma GCC unroll 8
    for (int u = 0; u < kSums; ++u) {
      row[i][0][u] = left[u];
      row[i][1][u] = right[u];
    }
  }
#pragma GCC unroll 8
  for (int u = 0; u < kSums; ++u) {
    V top = Set(-__builtin_inff());
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      top = Max(Add(row[0][j][u], Add(row[1][j][u], row[2][j][u])), top);
      top = Max(Add(Sub(row[1][j][u], row[2][j][u]), row[3][j][u]), top);
    }
    sum[u] = Add(sum[u], Relu(Add(top, Set(shift[u % kChannels]))));
  }
}

// kVectors vectors of G from the v-th on, for the g-th group of channels.
template <int kVectors>
static void FillPoints(const MaamPlan& plan, int64_t g, int64_t v, int64_t count, const float* points, float* panel) {
  V sum[kVectors * kChannels];
#pragma GCC unroll 8
  for (int u = 0; u < kVectors * kChannels; ++u) sum[u] = Set(0.0f);
  const int64_t first = g * kChannels;
  for (int k = 0; k < plan.p.branches; ++k) {
    const FoldedBranch& branch = plan.branch[k];
    if (branch.points == nullptr) continue;
    AddBranchByPoints<kVectors>(branch.points + g * plan.PointWeights(), branch.shift + first, plan.p.inputs,
                                points + v * plan.PointPixels(), plan.PointPixels(), sum);
  }
#pragma GCC unroll 8
  for (int u = 0; u < kVectors * kChannels; ++u) {
    const int64_t c = first + u % kChannels;
    if (c < plan.p.channels) {
      StoreRuns(plan, plan.vector[v + u / kChannels], sum[u], count, panel + c * plan.columns);
    }
  }
}

// The branches that go by points: a row of the panel for each channel.
static void FillByPoints(const MaamPlan& plan, int64_t rows, const float* points, float* panel) {
  const int64_t vectors = plan.VectorsOf(rows);
  const int64_t count = rows * plan.pooled_width;
  for (int64_t g = 0; g < plan.ChannelGroups(); ++g) {
    int64_t v = 0;
    for (; v + kPointVectors <= vectors; v += kPointVectors) {
      FillPoints<kPointVectors>(plan, g, v, count, points, panel);
    }
    for (; v < vectors; ++v) FillPoints<1>(plan, g, v, count, points, panel);
  }
}

}  // namespace maam_module
}  // namespace MAAM_ISA
}  // namespace maam
