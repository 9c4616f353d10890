// The kernel of dX. Compiled for each instruction set, see core/simd.h.
#pragma once

#include "agent_block/backward-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace agent_block {

// One panel of dA1 becomes dZ1 in the place of z1.
static void StoreFirstInput(const BlockPlan& plan, const Strip& s, const float* product, int64_t channel, float* map) {
  const Strips& t = plan.strips;
  for (int v = 0; v < kPanelVectors; ++v, channel += V::kLanes) {
    const NormGradient gradient(plan.first_norm, channel);
    float* plane = map + channel * t.MapRows() * t.MapStride();
    for (int64_t tile = 0; tile < s.Tiles(); ++tile) {
      V y[4][4];
      TransformOutput(product + (tile * kPanelVectors + v) * kFrequencies * V::kLanes, y);
      float* to = plane + ((1 + 4 * (tile / s.columns)) * t.MapStride() + 1 + 4 * (tile % s.columns)) * V::kLanes;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          float* at = to + (i * t.MapStride() + j) * V::kLanes;
          const V z = Load(at);
          Store(at, gradient.At(z, WherePositive(Fma(z, gradient.scale, gradient.shift), y[i][j])));
        }
      }
    }
  }
}

// What the strip's pixels of dZ1 add to dX: for each the products with the weights of all taps, taps being lanes, which
// go to the places that the taps took their values from.
static void AddInputGradient(const BlockPlan& plan, const Strip& s, const float* map, float* bordered) {
  const Strips& t = plan.strips;
  const int64_t taps = plan.first.taps, kernel = plan.p.kernel;
  const int64_t vector = t.MapRows() * t.MapStride() * V::kLanes;
  const int64_t plane = (plan.p.height + 2 * t.border) * plan.BorderedStride();
  const auto offset = [vector](int64_t c) { return c / V::kLanes * vector + c % V::kLanes; };
  const int64_t rows = RowsOf(t, s), columns = ColumnsOf(t, s);
  for (int64_t tap = 0; tap < taps; tap += kPanelColumns) {
    const int64_t lanes = taps - tap < kPanelColumns ? taps - tap : kPanelColumns;
    int64_t place[kPanelColumns];
    for (int64_t i = 0; i < lanes; ++i) {
      const int64_t within = (tap + i) % (kernel * kernel);
      place[i] = (tap + i) / (kernel * kernel) * plane + within / kernel * plan.BorderedStride() + within % kernel;
    }
    for (int64_t y = 0; y < rows; ++y) {
      for (int64_t x = 0; x < columns; x += kPanelRows) {
        V sum[kPanelRows][kPanelVectors] = {};
        PanelProduct<false>(map + ((y + 1) * t.MapStride() + x + 1) * V::kLanes, V::kLanes, offset, plan.p.middle,
                            plan.by_tap + tap * plan.p.middle, sum);
        float products[kPanelRows * kPanelColumns];
#pragma GCC unroll 8
        for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
          for (int v = 0; v < kPanelVectors; ++v) Store(products + r * kPanelColumns + v * V::kLanes, sum[r][v]);
        }
        float* to = bordered + (4 * s.top + y) * plan.BorderedStride() + 4 * s.left + x;
        for (int64_t r = 0; r < kPanelRows && x + r < columns; ++r) {
          for (int64_t i = 0; i < lanes; ++i) to[r + place[i]] += products[r * kPanelColumns + i];
        }
      }
    }
  }
}

}  // namespace agent_block
}  // namespace MAAM_ISA

void MAAM_VARIANT(agent_block_input_gradient)(const BlockPlan& plan, int64_t image, char* scratch) {
  using namespace MAAM_ISA;
  using namespace MAAM_ISA::agent_block;
  const AgentBlock& p = plan.p;
  const Strips& t = plan.strips;
  const Memory m(plan, scratch);
  ZeroFloats(m.bordered, plan.BorderedSize());
  for (int64_t i = image * t.PerImage(); i < (image + 1) * t.PerImage(); ++i) {
    const Strip s = StripAt(t, i);
    StagePatch(t, s, p.x, m.patch);
    FirstConvolution<false>(t, s, plan.first, m.patch, m.map);
    FillGradient(plan, s, m.gradient);
    TransformInput(t, s, m.gradient + (plan.GradientStride() + 1) * V::kLanes, plan.GradientRows(),
                   plan.GradientStride(), plan.channels, m.product, m.input);
    for (int64_t c = 0; c < t.middle; c += kPanelColumns) {
      MultiplyPanel(t, s.Tiles(), m.input, plan.channels, p.channels,
                    plan.transposed.weight + c * kFrequencies * p.channels, m.product);
      StoreFirstInput(plan, s, m.product, c, m.map);
    }
    AddInputGradient(plan, s, m.map, m.bordered);
  }
  for (int64_t row = 0; row < p.inputs * p.height; ++row) {
    const float* from =
        m.bordered + (row / p.height * (p.height + 2 * t.border) + row % p.height + t.border) * plan.BorderedStride() +
        t.border;
    float* to = plan.dx + (image * p.inputs * p.height + row) * p.width;
    for (int64_t x = 0; x < p.width; ++x) to[x] = from[x];
  }
}

}  // namespace maam
