// The backward's kernels. Compiled for each instruction set, see core/simd.h.
#pragma once

#include "agent_block/pixels-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace agent_block {

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

// dZ2 of the strip's pixels and two more around them, zeros outside the image: (vectors of channels, rows, columns,
// lanes).
static void FillGradient(const BlockPlan& plan, const Strip& s, float* map) {
  const AgentBlock& p = plan.p;
  const int64_t stride = plan.GradientStride();
  for (int64_t c = 0; c < plan.channels; c += V::kLanes) {
    const NormGradient gradient(plan.second_norm, c);
    const float* z = plan.saved.z + plan.ChannelAt(s.image, c, p.height * p.width);
    const float* pooled = plan.pooled_gradient + plan.ChannelAt(s.image, c, plan.pooled_height * plan.pooled_width);
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
          gradient.Window(in, Load(pooled + (y / 2 * plan.pooled_width + x / 2) * kChannelBlock), out);
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

// A dZ2 A^T of one panel of channels: (frequencies, tiles, panel).
static void TransformGradient(const BlockPlan& plan, const Strip& s, const float* map, int64_t channel, float* to) {
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

// sums (frequencies, middle, panel) += (B^T a1 B)^T (A dZ2 A^T), summed over the strip's tiles.
static void AddWeightSums(const BlockPlan& plan, const Strip& s, const float* input, const float* gradient,
                          float* sums) {
  const int64_t middle = plan.strips.middle;
  const auto offset = [middle](int64_t tile) { return tile * middle; };
  for (int64_t f = 0; f < kFrequencies; ++f) {
    const float* panel = gradient + f * plan.strips.tiles * kPanelColumns;
    for (int64_t i = 0; i < middle; i += kPanelRows) {
      float* to = sums + (f * middle + i) * kPanelColumns;
      V sum[kPanelRows][kPanelVectors];
#pragma GCC unroll 8
      for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = Load(to + r * kPanelColumns + v * V::kLanes);
      }
      Prefetch(to + kPanelRows * kPanelColumns, kPanelRows * kPanelColumns * int64_t{sizeof(float)});
      PanelProduct<false>(input + f * plan.strips.FrequencyStride(middle) + i, 1, offset, s.Tiles(), panel, sum);
#pragma GCC unroll 8
      for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kPanelVectors; ++v) Store(to + r * kPanelColumns + v * V::kLanes, sum[r][v]);
      }
    }
  }
}

// One panel of dA1 becomes dY1 in the place of a1, whose sign it needs; sum += dY1.
static void StoreFirstGradient(const BlockPlan& plan, const Strip& s, const float* product, int64_t channel, float* map,
                               float* total) {
  const Strips& t = plan.strips;
  for (int v = 0; v < kPanelVectors; ++v) {
    float* plane = map + (channel + v * V::kLanes) * t.MapRows() * t.MapStride();
    V sum = Set(0.0f);
    for (int64_t tile = 0; tile < s.Tiles(); ++tile) {
      V y[4][4];
      TransformOutput(product + (tile * kPanelVectors + v) * kFrequencies * V::kLanes, y);
      float* to = plane + ((1 + 4 * (tile / s.columns)) * t.MapStride() + 1 + 4 * (tile % s.columns)) * V::kLanes;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          float* at = to + (i * t.MapStride() + j) * V::kLanes;
          const V dy = WherePositive(Load(at), y[i][j]);
          Store(at, dy);
          sum = Add(sum, dy);
        }
      }
    }
    float* at = total + channel + v * V::kLanes;
    Store(at, Add(Load(at), sum));
  }
}

static void BackwardStrip(const BlockPlan& plan, const Strip& s, const Memory& m, float* weight_sums,
                          float* taps_sums) {
  const Strips& t = plan.strips;
  StagePatch(t, s, plan.p.x, m.patch);
  FirstConvolution<true>(t, s, plan.first, m.patch, m.map);
  TransformInput(t, s, m.map, t.MapRows(), t.MapStride(), t.middle, m.product, m.input);
  FillGradient(plan, s, m.gradient);
  for (int64_t c = 0; c < plan.channels; c += kPanelColumns) {
    TransformGradient(plan, s, m.gradient, c, m.product);
    AddWeightSums(plan, s, m.input, m.product, weight_sums + c * kFrequencies * t.middle);
  }
  TransformInput(t, s, m.gradient + (plan.GradientStride() + 1) * V::kLanes, plan.GradientRows(), plan.GradientStride(),
                 plan.channels, m.product, m.input);
  for (int64_t c = 0; c < t.middle; c += kPanelColumns) {
    MultiplyPanel(t, s, m.input, plan.channels, plan.p.channels,
                  plan.transposed.weight + c * kFrequencies * plan.p.channels, m.product);
    StoreFirstGradient(plan, s, m.product, c, m.map, taps_sums + plan.first.taps * t.middle);
    AddByTap(plan, s, m.patch, m.map, c, taps_sums);
  }
}

}  // namespace agent_block
}  // namespace MAAM_ISA

void MAAM_VARIANT(agent_block_pooled_gradient)(const BlockPlan& plan, int64_t image, const float* da) {
  using namespace MAAM_ISA;
  using namespace MAAM_ISA::agent_block;
  const int64_t pixels = plan.pooled_height * plan.pooled_width;
  float* sums = plan.strip_sums + image * 2 * plan.channels;
  for (int64_t c = 0; c < plan.channels; c += V::kLanes) {
    const V scale = Load(plan.second_norm.scale + c), shift = Load(plan.second_norm.shift + c);
    const V mean = Load(plan.second_norm.mean + c), rstd = Load(plan.second_norm.rstd + c);
    const float* pooled = plan.saved.pooled + plan.ChannelAt(image, c, pixels);
    float* to = plan.pooled_gradient + plan.ChannelAt(image, c, pixels);
    const float* from = da + (image * plan.p.channels + c) * pixels;
    const int64_t count = plan.p.channels - c < V::kLanes ? plan.p.channels - c : V::kLanes;
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

void MAAM_VARIANT(agent_block_backward)(const BlockPlan& plan, int64_t group, char* scratch) {
  using namespace MAAM_ISA::agent_block;
  const Memory m(plan, scratch);
  float* weight_sums = plan.weight_sums + group * plan.WeightSums();
  float* taps_sums = plan.taps_sums + group * (plan.first.taps + 1) * plan.strips.middle;
  ZeroFloats(weight_sums, plan.WeightSums());
  ZeroFloats(taps_sums, (plan.first.taps + 1) * plan.strips.middle);
  for (int64_t i = plan.GroupBegin(group); i < plan.GroupBegin(group + 1); ++i) {
    BackwardStrip(plan, StripAt(plan.strips, i), m, weight_sums, taps_sums);
  }
}

void MAAM_VARIANT(agent_block_weight_gradient)(const BlockPlan& plan, int64_t vector, float* gradient) {
  using namespace MAAM_ISA;
  using namespace MAAM_ISA::agent_block;
  const int64_t middle = plan.strips.middle;
  const int64_t channel = vector * V::kLanes;
  const float* sums =
      plan.weight_sums + channel / kPanelColumns * kFrequencies * middle * kPanelColumns + channel % kPanelColumns;
  for (int64_t i = 0; i < plan.p.middle; ++i) {
    V half[3][6];
    for (int x = 0; x < 6; ++x) {
      V u[6], g[3];
#pragma GCC unroll 6
      for (int y = 0; y < 6; ++y) {
        const float* from = sums + ((y * 6 + x) * middle + i) * kPanelColumns;
        u[y] = Load(from);
        for (int64_t group = 1; group < plan.groups; ++group) u[y] = Add(u[y], Load(from + group * plan.WeightSums()));
      }
      WinogradWeightGradient(u, g);
      for (int y = 0; y < 3; ++y) half[y][x] = g[y];
    }
    for (int y = 0; y < 3; ++y) {
      V g[3];
      WinogradWeightGradient(half[y], g);
      for (int x = 0; x < 3; ++x) {
        float lanes[V::kLanes];
        Store(lanes, g[x]);
        for (int64_t lane = 0; lane < V::kLanes && channel + lane < plan.p.channels; ++lane) {
          gradient[((channel + lane) * plan.p.middle + i) * 9 + y * 3 + x] = lanes[lane];
        }
      }
    }
  }
}

}  // namespace maam
