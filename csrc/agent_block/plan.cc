#include "agent_block/plan.h"

#include <algorithm>

namespace maam {
namespace {

constexpr int64_t kFloat = sizeof(float);
// Of a strip: enough to keep the sums of the weights' gradient in registers for long, few enough for the L2 cache.
constexpr int64_t kStripTiles = 24;

}  // namespace

BlockPlan::BlockPlan(const AgentBlock& problem, const AgentBlockSaved& with, int64_t vector_lanes)
    : p(problem), saved(with) {
  lanes = vector_lanes;
  depth = p.middle;
  outputs = p.channels;
  channels = RoundUp(p.channels, kChannelBlock);
  z = saved.z;
  pooled = saved.pooled;
  strips.inputs = p.inputs;
  strips.middle = RoundUp(p.middle, kChannelBlock);
  strips.border = p.kernel / 2;
  Cut(p.batch, p.height, p.width, kStripTiles);
  // The first convolution takes strips one by one.
  bundle = 1;
  strips.tiles = RoundUp(strips.rows * strips.columns, kBlockTiles);
  groups = Groups();

  ScratchLayout layout;
  bordered = layout.Take(BorderedSize() * kFloat);
  patch = layout.Take(strips.PatchSize() * kFloat);
  map = layout.Take(strips.MapSize() * kFloat);
  gradient = layout.Take(GradientSize() * kFloat);
  const int64_t widest = std::max(strips.middle, channels);
  input = layout.Take(kWinogradFrequencies * strips.FrequencyStride(widest) * kFloat);
  product = layout.Take(kWinogradFrequencies * strips.tiles * Panel() * kFloat);
  total = layout.Total();
}

BlockTables::BlockTables(const BlockPlan& plan, BlockPass pass) : pass_(pass) {
  const int64_t middle = plan.strips.middle, channels = plan.channels, taps = plan.p.Taps();
  const auto floats = [this](int64_t count) { return layout_.Take(count * kFloat); };
  first_ = floats(taps * middle);
  first_shift_ = floats(middle);
  offset_ = layout_.Take(taps * int64_t{sizeof(int64_t)});
  ones_ = floats(std::max(middle, channels));
  norms_ = floats(BatchNormVectors::kVectors * (middle + channels));
  taps_sums_ = floats(plan.groups * (taps + 1) * middle);
  strip_sums_ = floats(std::max(plan.strips.Count(), plan.p.batch) * 2 * std::max(middle, channels));
  if (pass != BlockPass::kForward) {
    transposed_ = floats(kWinogradFrequencies * plan.p.channels * middle);
    rotated_ = floats(9 * plan.p.middle * plan.p.channels);
    pooled_gradient_ = floats(plan.p.batch * channels * plan.result_height * plan.result_width);
    if (pass == BlockPass::kBackward) {
      weight_sums_ = floats(plan.groups * plan.WeightSums());
    } else {
      by_tap_ = floats(plan.p.middle * RoundUp(taps, plan.Panel()));
    }
  } else {
    second_ = floats(kWinogradFrequencies * plan.p.middle * channels);
    patch_sums_ = floats(plan.groups * taps);
  }
}

void BlockTables::Place(char* memory, BlockPlan* plan) const {
  const auto floats = [memory](int64_t offset) { return reinterpret_cast<float*>(memory + offset); };
  const int64_t middle = plan->strips.middle, channels = plan->channels;
  plan->first = {{floats(first_), floats(first_shift_)}, plan->p.Taps(), reinterpret_cast<int64_t*>(memory + offset_)};
  plan->strips.FillOffsets(plan->p.kernel, plan->first.offset);
  plan->ones = floats(ones_);
  std::fill_n(plan->ones, std::max(middle, channels), 1.0f);
  plan->first_norm.Place(floats(norms_), middle);
  plan->norm.Place(floats(norms_) + BatchNormVectors::kVectors * middle, channels);
  plan->taps_sums = floats(taps_sums_);
  plan->strip_sums = floats(strip_sums_);
  if (pass_ != BlockPass::kForward) {
    plan->transposed.weight = floats(transposed_);
    plan->rotated = floats(rotated_);
    plan->result_gradient = floats(pooled_gradient_);
    plan->weight_sums = floats(weight_sums_);
    plan->by_tap = floats(by_tap_);
  } else {
    plan->forward.weight = floats(second_);
    plan->patch_sums = floats(patch_sums_);
  }
}

}  // namespace maam
