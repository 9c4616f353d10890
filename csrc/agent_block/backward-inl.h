// The backward's kernels. Compiled for each instruction set, see core/simd.h.
#pragma once

#include "agent_block/pixels-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace agent_block {

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

static void BackwardStrip(const BlockPlan& plan, const Strip& s, const Memory& m, bool adds, float* weight_sums,
                          float* taps_sums) {
  const Strips& t = plan.strips;
  StagePatch(t, s, plan.p.x, m.patch);
  FirstConvolution<true>(t, s, plan.first, m.patch, m.map);
  TransformInput(t, s, m.map, t.MapRows(), t.MapStride(), t.middle, m.product, m.input);
  FillGradient(plan, s, m.gradient);
  for (int64_t c = 0; c < plan.channels; c += kPanelColumns) {
    TransformGradient(plan, s, m.gradient, c, m.product);
    AddWeightSums(plan, adds, s.Tiles(), m.input, m.product, weight_sums + c * kFrequencies * t.middle);
  }
  TransformInput(t, s, m.gradient + (plan.GradientStride() + 1) * V::kLanes, plan.GradientRows(), plan.GradientStride(),
                 plan.channels, m.product, m.input);
  for (int64_t c = 0; c < t.middle; c += kPanelColumns) {
    MultiplyPanel(t, s.Tiles(), m.input, plan.channels, plan.p.channels,
                  plan.transposed.weight + c * kFrequencies * plan.p.channels, m.product);
    StoreFirstGradient(plan, s, m.product, c, m.map, taps_sums + plan.first.taps * t.middle);
    AddByTap(plan, s, m.patch, m.map, c, taps_sums);
  }
}

}  // namespace agent_block
}  // namespace MAAM_ISA

void MAAM_VARIANT(agent_block_pooled_gradient)(const BlockPlan& plan, int64_t image, const float* da) {
  MAAM_ISA::winograd::TakeResultGradient(plan, image, da);
}

void MAAM_VARIANT(agent_block_backward)(const BlockPlan& plan, int64_t group, char* scratch) {
  using namespace MAAM_ISA::agent_block;
  const Memory m(plan, scratch);
  float* weight_sums = plan.weight_sums + group * plan.WeightSums();
  float* taps_sums = plan.taps_sums + group * (plan.first.taps + 1) * plan.strips.middle;
  ZeroFloats(taps_sums, (plan.first.taps + 1) * plan.strips.middle);
  for (int64_t i = plan.GroupBegin(group); i < plan.GroupBegin(group + 1); ++i) {
    BackwardStrip(plan, StripAt(plan.strips, i), m, i > plan.GroupBegin(group), weight_sums, taps_sums);
  }
}

void MAAM_VARIANT(agent_block_weight_gradient)(const BlockPlan& plan, int64_t vector, float* gradient) {
  MAAM_ISA::winograd::StoreWeightGradient(plan, vector, gradient);
}

}  // namespace maam
