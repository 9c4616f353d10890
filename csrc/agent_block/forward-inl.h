// The forward's kernels. Compiled for each instruction set, see core/simd.h.
#pragma once

#include "agent_block/pixels-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace agent_block {

// Statistics of the first convolution's own pixels of a strip.
static void MapStatistics(const BlockPlan& plan, const Strip& s, const float* map, float* sums) {
  const Strips& t = plan.strips;
  const int64_t rows = RowsOf(t, s), columns = ColumnsOf(t, s);
  for (int64_t c = 0; c < t.middle; c += V::kLanes) {
    const float* origin = map + (c * t.MapRows() + V::kLanes) * t.MapStride() + V::kLanes;
    Deviations deviations(Load(origin));
    for (int64_t y = 0; y < rows; ++y) {
      const float* row = origin + y * t.MapStride() * V::kLanes;
      for (int64_t x = 0; x < columns; ++x) deviations.Add(Load(row + x * V::kLanes));
    }
    deviations.Take(rows * columns, sums + c, sums + t.middle + c);
  }
}

static void AddPatchSums(const BlockPlan& plan, const Strip& s, const float* patch, float* sums) {
  const Strips& t = plan.strips;
  for (int64_t tap = 0; tap < plan.first.taps; ++tap) {
    V sum = Set(0.0f);
    for (int64_t y = 1; y <= RowsOf(t, s); ++y) {
      const float* row = patch + y * t.PatchStride() + 1 + plan.first.offset[tap];
      ForVectors<V>(ColumnsOf(t, s), [&](int64_t i, int64_t n) { sum = Add(sum, LoadUpTo(row + i, n)); });
    }
    sums[tap] += static_cast<float>(SumLanes(sum));
  }
}

}  // namespace agent_block
}  // namespace MAAM_ISA

void MAAM_VARIANT(agent_block_pack)(const BlockPlan& plan, BlockWeights which, int64_t vector, char* scratch) {
  using namespace MAAM_ISA;
  const AgentBlock& p = plan.p;
  const int64_t output = vector * F32::kLanes;
  float* plain = reinterpret_cast<float*>(scratch);
  if (which == BlockWeights::kFirst) {
    const float* scale = (plan.first.shift == plan.first_norm.shift ? plan.first_norm.scale : plan.ones) + output;
    PackPlain(p.first_weight + output * plan.first.taps, plan.first.taps, p.middle, output, scale, plan.first.weight);
  } else if (which == BlockWeights::kSecond) {
    PackWinograd(p.second_weight + output * 9 * p.middle, p.middle, p.channels, output, plan.ones, plain,
                 WinogradPanel(plan.forward.weight, p.middle, output));
  } else {
    PackWinograd(plan.rotated + output * 9 * p.channels, p.channels, p.middle, output, plan.ones, plain,
                 WinogradPanel(plan.transposed.weight, p.channels, output));
  }
}

void MAAM_VARIANT(agent_block_moments)(const BlockPlan& plan, int64_t group, char* scratch) {
  using namespace MAAM_ISA;
  using namespace MAAM_ISA::agent_block;
  const Strips& t = plan.strips;
  const Memory m(plan, scratch);
  float* taps_sums = plan.taps_sums + group * (plan.first.taps + 1) * t.middle;
  float* patch_sums = plan.patch_sums + group * plan.first.taps;
  ZeroFloats(taps_sums, plan.first.taps * t.middle);
  ZeroFloats(patch_sums, plan.first.taps);
  for (int64_t i = plan.GroupBegin(group); i < plan.GroupBegin(group + 1); ++i) {
    const Strip s = StripAt(t, i);
    StagePatch(t, s, plan.p.x, m.patch);
    FirstConvolution<false>(t, s, plan.first, m.patch, m.map);
    MapStatistics(plan, s, m.map, plan.strip_sums + i * 2 * t.middle);
    for (int64_t c = 0; c < t.middle; c += kPanelColumns) AddByTap(plan, s, m.patch, m.map, c, taps_sums);
    AddPatchSums(plan, s, m.patch, patch_sums);
  }
}

void MAAM_VARIANT(agent_block_forward)(const BlockPlan& plan, int64_t index, char* scratch) {
  using namespace MAAM_ISA;
  using namespace MAAM_ISA::agent_block;
  const Strips& t = plan.strips;
  const Strip s = StripAt(t, index);
  const Memory m(plan, scratch);
  StagePatch(t, s, plan.p.x, m.patch);
  FirstConvolution<true>(t, s, plan.first, m.patch, m.map);
  TransformInput(t, s, m.map, t.MapRows(), t.MapStride(), t.middle, m.product, m.input);
  for (int64_t c = 0; c < plan.channels; c += kPanelColumns) {
    MultiplyPanel(t, s.Tiles(), m.input, t.middle, plan.p.middle,
                  plan.forward.weight + c * kFrequencies * plan.p.middle, m.product);
    for (int v = 0; v < kPanelVectors; ++v) {
      StoreConvolution(plan, s, m.product + v * kFrequencies * V::kLanes, c + v * V::kLanes,
                       plan.strip_sums + index * 2 * plan.channels);
    }
  }
}

void MAAM_VARIANT(agent_block_finish)(const BlockPlan& plan, int64_t image, float* a) {
  MAAM_ISA::winograd::StoreResult<false>(plan, image, nullptr, a);
}

}  // namespace maam
