// The kernels of a trained 3 x 3 convolution and its normalisation (winograd/training.h) from the transformed input on.
// Compiled for each instruction set, see core/simd.h.
#pragma once

#include "core/tile-inl.h"
#include "winograd/strip-inl.h"
#include "winograd/training.h"

namespace maam {
namespace MAAM_ISA {
namespace winograd {

using V = F32;

MAAM_INLINE void ZeroFloats(float* p, int64_t count) { std::memset(p, 0, static_cast<size_t>(count) * sizeof(float)); }

// The strip's pixels that lie in the image.
MAAM_INLINE int64_t RowsOf(const Strips& t, const Strip& s) {
  return t.height - 4 * s.top < 4 * s.rows ? t.height - 4 * s.top : 4 * s.rows;
}
MAAM_INLINE int64_t ColumnsOf(const Strips& t, const Strip& s) {
  return t.width - 4 * s.left < 4 * s.columns ? t.width - 4 * s.left : 4 * s.columns;
}

// Mean and sum of squared deviations of values that come one by one, by their differences from one of them: a plain sum
// of squares would lose the variance of values far from zero.
class Deviations {
 public:
  explicit MAAM_MEMBER Deviations(V reference) : reference_(reference), sum_(Set(0.0f)), squares_(Set(0.0f)) {}
  MAAM_MEMBER void Add(V value) {
    const V d = Sub(value, reference_);
    sum_ = MAAM_ISA::Add(sum_, d);
    squares_ = Fma(d, d, squares_);
  }
  MAAM_MEMBER void Take(int64_t count, float* mean, float* deviations) const {
    const V part = Mul(sum_, Set(1.0f / static_cast<float>(count)));
    Store(mean, MAAM_ISA::Add(reference_, part));
    Store(deviations, Sub(squares_, Mul(sum_, part)));
  }

 private:
  V reference_, sum_, squares_;
};

// The windows of one tile that lie in the image: the one pixel that becomes the maximum, whatever the sign of gamma;
// where gamma is 0 all of them do, and the first stands for them.
MAAM_INLINE void StorePooled(const WinogradTraining& plan, int64_t top, int64_t left, const V (&y)[4][4], V sign,
                             float* pooled) {
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 2; ++j) {
      const int64_t row = top / 2 + i, column = left / 2 + j;
      if (row >= plan.result_height || column >= plan.result_width) continue;
      const V a = Mul(y[2 * i][2 * j], sign), b = Mul(y[2 * i][2 * j + 1], sign);
      const V c = Mul(y[2 * i + 1][2 * j], sign), d = Mul(y[2 * i + 1][2 * j + 1], sign);
      const V first = WhereEqual(sign, Set(0.0f), y[2 * i][2 * j]);
      const V largest = Mul(Max(Max(a, b), Max(c, d)), sign);
      Store(pooled + (row * plan.result_width + column) * kChannelBlock, Add(largest, first));
    }
  }
}

// One vector of channels of the convolution of a strip: z, pooled pixels and statistics.
static void StoreConvolution(const WinogradTraining& plan, const Strip& s, const float* product, int64_t channel,
                             float* sums) {
  const Strips& p = plan.strips;
  float* z = plan.z + plan.ChannelAt(s.image, channel, p.height * p.width);
  float* pooled = plan.pooled + plan.ChannelAt(s.image, channel, plan.result_height * plan.result_width);
  const V sign = Load(plan.norm.sign + channel);
  V y[4][4];
  TransformOutput(product, y);
  Deviations deviations(y[0][0]);
  for (int64_t tile = 0; tile < s.Tiles(); ++tile) {
    const int64_t top = 4 * (s.top + tile / s.columns), left = 4 * (s.left + tile % s.columns);
    TransformOutput(product + tile * kPanelVectors * kFrequencies * V::kLanes, y);
    const bool whole = top + 4 <= p.height && left + 4 <= p.width;
    float* to = z + (top * p.width + left) * kChannelBlock;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        if (!whole && (top + i >= p.height || left + j >= p.width)) continue;
        Store(to + (i * p.width + j) * kChannelBlock, y[i][j]);
        deviations.Add(y[i][j]);
      }
    }
    if (plan.pools) StorePooled(plan, top, left, y, sign, pooled);
  }
  deviations.Take(RowsOf(plan.strips, s) * ColumnsOf(plan.strips, s), sums + channel, sums + plan.channels + channel);
}

// dZ of one vector of channels.
struct NormGradient {
  V scale, shift, mean, offset, slope;

  MAAM_MEMBER NormGradient(const BatchNormVectors& norm, int64_t channel)
      : scale(Load(norm.scale + channel)),
        shift(Load(norm.shift + channel)),
        mean(Load(norm.mean + channel)),
        offset(Load(norm.offset + channel)),
        slope(Load(norm.slope + channel)) {}

  MAAM_MEMBER V At(V z, V dy) const { return Fma(Sub(z, mean), slope, Fma(dy, scale, offset)); }

  // Of a window: the pooled gradient goes to the first of the pixels that are the maximum.
  MAAM_MEMBER void Window(const V (&z)[4], V pooled, V (&dz)[4]) const {
    V y[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) y[i] = Fma(z[i], scale, shift);
    const V top = Max(Max(y[0], y[1]), Max(y[2], y[3]));
    V rest = pooled;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      dz[i] = At(z[i], WhereEqual(y[i], top, rest));
      rest = WhereGreater(top, y[i], rest, Set(0.0f));
    }
  }
};

// dZ of a strip, each gradient of a pooled pixel going to the window that it stands for.
static void FillPooledGradient(const WinogradTraining& plan, const Strip& s, float* map) {
  const Strips& p = plan.strips;
  const int64_t stride = plan.GradientStride();
  for (int64_t c = 0; c < plan.channels; c += V::kLanes) {
    const NormGradient gradient(plan.norm, c);
    const float* z = plan.z + plan.ChannelAt(s.image, c, p.height * p.width);
    const float* pooled = plan.result_gradient + plan.ChannelAt(s.image, c, plan.result_height * plan.result_width);
    for (int64_t i = 0; i < 2 * s.rows + 2; ++i) {
      const int64_t y = 4 * s.top - 2 + 2 * i;
      float* to = map + (c * plan.GradientRows() + 2 * i * V::kLanes) * stride;
      for (int64_t j = 0; j < 2 * s.columns + 2; ++j, to += 2 * V::kLanes) {
        const int64_t x = 4 * s.left - 2 + 2 * j;
        const float* from = z + (y * p.width + x) * kChannelBlock;
        if (y >= 0 && x >= 0 && y + 1 < p.height && x + 1 < p.width) {
          V in[4], out[4];
#pragma GCC unroll 4
          for (int k = 0; k < 4; ++k) in[k] = Load(from + (k / 2 * p.width + k % 2) * kChannelBlock);
          gradient.Window(in, Load(pooled + (y / 2 * plan.result_width + x / 2) * kChannelBlock), out);
#pragma GCC unroll 4
          for (int k = 0; k < 4; ++k) Store(to + (k / 2 * stride + k % 2) * V::kLanes, out[k]);
          continue;
        }
        for (int k = 0; k < 4; ++k) {  // a row or column that pooling leaves out, or none at all
          const bool inside = y >= 0 && x >= 0 && y + k / 2 < p.height && x + k % 2 < p.width;
          Store(to + (k / 2 * stride + k % 2) * V::kLanes,
                inside ? gradient.At(Load(from + (k / 2 * p.width + k % 2) * kChannelBlock), Set(0.0f)) : Set(0.0f));
        }
      }
    }
  }
}

// dZ of a strip without pooling.
static void FillPlainGradient(const WinogradTraining& plan, const Strip& s, float* map) {
  const Strips& p = plan.strips;
  const int64_t stride = plan.GradientStride();
  const int64_t columns = 4 * s.columns + 4, left = 4 * s.left - 2;
  const int64_t begin = left < 0 ? -left : 0;
  const int64_t end = p.width - left < columns ? p.width - left : columns;
  for (int64_t c = 0; c < plan.channels; c += V::kLanes) {
    const NormGradient gradient(plan.norm, c);
    const int64_t channel = plan.ChannelAt(s.image, c, p.height * p.width);
    for (int64_t i = 0; i < 4 * s.rows + 4; ++i) {
      const int64_t y = 4 * s.top - 2 + i;
      float* to = map + (c * plan.GradientRows() + i * V::kLanes) * stride;
      const bool inside = y >= 0 && y < p.height;
      ZeroCells(to, inside ? begin : columns);
      if (!inside) continue;
      const int64_t at = channel + (y * p.width + left) * kChannelBlock;
      for (int64_t x = begin; x < end; ++x) {
        const V dy = Load(plan.result_gradient + at + x * kChannelBlock);
        Store(to + x * V::kLanes, gradient.At(Load(plan.z + at + x * kChannelBlock), dy));
      }
      ZeroCells(to + end * V::kLanes, columns - end);
    }
  }
}

// dZ of the strip's pixels and two more around them, zeros outside the image: (vectors of channels, rows, columns,
// lanes).
static void FillGradient(const WinogradTraining& plan, const Strip& s, float* map) {
  plan.pools ? FillPooledGradient(plan, s, map) : FillPlainGradient(plan, s, map);
}
// A dZ A^T of one panel of channels: (frequencies, tiles, panel).
static void TransformGradient(const WinogradTraining& plan, const Strip& s, const float* map, int64_t channel,
                              float* to) {
  const int64_t stride = plan.GradientStride() * V::kLanes;
  for (int v = 0; v < kPanelVectors; ++v) {
    const float* plane = map + (channel + v * V::kLanes) * plan.GradientRows() * plan.GradientStride();
    for (int64_t tile = 0; tile < s.Tiles(); ++tile) {
      const float* from = plane + (2 + 4 * (tile / s.columns)) * stride + (2 + 4 * (tile % s.columns)) * V::kLanes;
      V half[6][4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        V d[4], m[6];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) d[i] = Load(from + i * stride + j * V::kLanes);
        WinogradOutputGradient(d, m);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) half[i][j] = m[i];
      }
      float* out = to + tile * kPanelColumns + v * V::kLanes;
#pragma GCC unroll 6
      for (int i = 0; i < 6; ++i) {
        V m[6];
        WinogradOutputGradient(half[i], m);
#pragma GCC unroll 6
        for (int j = 0; j < 6; ++j) Store(out + (i * 6 + j) * plan.strips.tiles * kPanelColumns, m[j]);
      }
    }
  }
}

// sums (frequencies, middle, panel) = or, if it adds, += (B^T a B)^T (A dZ A^T), summed over `tiles` tiles.
// Not inlined: its callers need the registers that its innermost loop counts in.
static __attribute__((noinline)) void AddWeightSums(const WinogradTraining& plan, bool adds, int64_t tiles,
                                                    const float* input, const float* gradient, float* sums) {
  const int64_t middle = plan.strips.middle;
  const auto offset = [middle](int64_t tile) { return tile * middle; };
  for (int64_t f = 0; f < kFrequencies; ++f) {
    const float* panel = gradient + f * plan.strips.tiles * kPanelColumns;
    ForRowBlocks(middle, [&](auto block, int64_t i) {
      constexpr int kRows = decltype(block)::kRows;
      float* to = sums + (f * middle + i) * kPanelColumns;
      V sum[kRows][kPanelVectors];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kPanelVectors; ++v) {
          sum[r][v] = adds ? Load(to + r * kPanelColumns + v * V::kLanes) : Set(0.0f);
        }
      }
      for (int r = 0; r < kRows; ++r) __builtin_prefetch(to + (kRows + r) * kPanelColumns, 1, 3);
      PanelProduct<false>(input + f * plan.strips.FrequencyStride(middle) + i, 1, offset, tiles, panel, sum);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kPanelVectors; ++v) Store(to + r * kPanelColumns + v * V::kLanes, sum[r][v]);
      }
    });
  }
}

// A of an image from z or its pooled pixels; kAdds: plus a residual of A's shape.
template <bool kAdds>
static void StoreResult(const WinogradTraining& plan, int64_t image, const float* residual, float* a) {
  const int64_t pixels = plan.result_height * plan.result_width;
  for (int64_t c = 0; c < plan.outputs; c += V::kLanes) {
    const V scale = Load(plan.norm.scale + c), shift = Load(plan.norm.shift + c);
    const float* pooled = plan.pooled + plan.ChannelAt(image, c, pixels);
    const int64_t at = (image * plan.outputs + c) * pixels;
    const int64_t count = plan.outputs - c < V::kLanes ? plan.outputs - c : V::kLanes;
    ForVectors<V>(pixels, [&](int64_t i, int64_t n) {
      float last[V::kLanes * V::kLanes] = {}, first[V::kLanes * V::kLanes];
      for (int64_t j = 0; j < n; ++j) {
        const V y = Fma(Load(pooled + (i + j) * kChannelBlock), scale, shift);
        Store(last + j * V::kLanes, WherePositive(y, y));
      }
      TransposeSquare<V>(last, V::kLanes, first, V::kLanes);
      for (int64_t j = 0; j < count; ++j) {
        const int64_t to = at + j * pixels + i;
        V y = Load(first + j * V::kLanes);
        if constexpr (kAdds) y = Add(y, LoadUpTo(residual + to, n));
        StoreUpTo(a + to, y, n);
      }
    });
  }
}

// result_gradient of an image and its sums, from dA.
static void TakeResultGradient(const WinogradTraining& plan, int64_t image, const float* da) {
  const int64_t pixels = plan.result_height * plan.result_width;
  float* sums = plan.strip_sums + image * 2 * plan.channels;
  for (int64_t c = 0; c < plan.channels; c += V::kLanes) {
    const V scale = Load(plan.norm.scale + c), shift = Load(plan.norm.shift + c);
    const V mean = Load(plan.norm.mean + c), rstd = Load(plan.norm.rstd + c);
    const float* pooled = plan.pooled + plan.ChannelAt(image, c, pixels);
    float* to = plan.result_gradient + plan.ChannelAt(image, c, pixels);
    const float* from = da + (image * plan.outputs + c) * pixels;
    const int64_t count = plan.outputs - c < V::kLanes ? plan.outputs - c : V::kLanes;
    V beta = Set(0.0f), gamma = Set(0.0f);
    ForVectors<V>(pixels, [&](int64_t i, int64_t n) {
      float first[V::kLanes * V::kLanes] = {}, last[V::kLanes * V::kLanes];
      for (int64_t j = 0; j < count; ++j) Store(first + j * V::kLanes, LoadUpTo(from + j * pixels + i, n));
      TransposeSquare<V>(first, V::kLanes, last, V::kLanes);
      for (int64_t j = 0; j < n; ++j) {
        const V z = Load(pooled + (i + j) * kChannelBlock);
        const V dy = WherePositive(Fma(z, scale, shift), Load(last + j * V::kLanes));
        Store(to + (i + j) * kChannelBlock, dy);
        beta = Add(beta, dy);
        gamma = Fma(dy, Mul(Sub(z, mean), rstd), gamma);
      }
    });
    Store(sums + c, beta);
    Store(sums + plan.channels + c, gamma);
  }
}

constexpr int64_t kInputsTogether = 8;

// The groups' sums of one vector of outputs, all frequencies of `count` of its inputs from `input` on. A frequency is
// pages away from the next, so what lies side by side is read together.
static void JoinWeightSums(const WinogradTraining& plan, const float* sums, int64_t input, int64_t count,
                           V joined[kInputsTogether][kFrequencies]) {
  for (int64_t f = 0; f < kFrequencies; ++f) {
    const float* from = sums + (f * plan.strips.middle + input) * kPanelColumns;
    for (int64_t i = 0; i < count; ++i) joined[i][f] = Load(from + i * kPanelColumns);
    for (int64_t group = 1; group < plan.groups; ++group) {
      from += plan.WeightSums();
      for (int64_t i = 0; i < count; ++i) joined[i][f] = Add(joined[i][f], Load(from + i * kPanelColumns));
    }
  }
}

// The gradient of the nine weights from one input to a vector of outputs, from its sums.
static void StoreTapGradients(const WinogradTraining& plan, int64_t channel, int64_t input, const V* sums,
                              float* gradient) {
  V half[3][6];
  for (int x = 0; x < 6; ++x) {
    V u[6], g[3];
#pragma GCC unroll 6
    for (int y = 0; y < 6; ++y) u[y] = sums[y * 6 + x];
    WinogradWeightGradient(u, g);
    for (int y = 0; y < 3; ++y) half[y][x] = g[y];
  }
  for (int y = 0; y < 3; ++y) {
    V g[3];
    WinogradWeightGradient(half[y], g);
    for (int x = 0; x < 3; ++x) {
      float lanes[V::kLanes];
      Store(lanes, g[x]);
      for (int64_t lane = 0; lane < V::kLanes && channel + lane < plan.outputs; ++lane) {
        gradient[((channel + lane) * plan.depth + input) * 9 + y * 3 + x] = lanes[lane];
      }
    }
  }
}

// The weights' gradient of one vector of outputs, from the groups' sums.
static void StoreWeightGradient(const WinogradTraining& plan, int64_t vector, float* gradient) {
  const int64_t channel = vector * V::kLanes;
  const float* sums = plan.weight_sums + channel % kPanelColumns +
                      channel / kPanelColumns * kFrequencies * plan.strips.middle * kPanelColumns;
  for (int64_t input = 0; input < plan.depth; input += kInputsTogether) {
    const int64_t count = plan.depth - input < kInputsTogether ? plan.depth - input : kInputsTogether;
    V joined[kInputsTogether][kFrequencies];
    JoinWeightSums(plan, sums, input, count, joined);
    for (int64_t i = 0; i < count; ++i) StoreTapGradients(plan, channel, input + i, joined[i], gradient);
  }
}

}  // namespace winograd
}  // namespace MAAM_ISA
}  // namespace maam
