#include "conv_block/plan.h"

#include <algorithm>
#include <cmath>

namespace maam {
namespace {

constexpr int64_t kFloat = sizeof(float);
// Of a bundle: enough that weights and their gradient's sums stay in registers for long, few enough for the L2 cache.
constexpr int64_t kBundleTiles = 24;

}  // namespace

ConvPlan::ConvPlan(const ConvBlock& problem, ConvPass which, int64_t vector_lanes) : p(problem), pass(which) {
  lanes = vector_lanes;
  depth = p.inputs;
  outputs = p.channels;
  channels = RoundUp(p.channels, kChannelBlock);
  pools = p.pools;
  strips.inputs = p.inputs;
  strips.middle = RoundUp(p.inputs, kChannelBlock);
  Cut(p.batch, p.height, p.width, kBundleTiles);

  const bool backward = pass == ConvPass::kBackward;
  ScratchLayout layout;
  map = layout.Take(strips.MapSize() * kFloat);
  gradient = layout.Take(backward ? bundle * GradientSize() * kFloat : 0);
  const int64_t widest = backward ? std::max(strips.middle, channels) : strips.middle;
  input = layout.Take(kWinogradFrequencies * strips.FrequencyStride(widest) * kFloat);
  product = layout.Take(kWinogradFrequencies * strips.tiles * Panel() * kFloat);
  staged = layout.Take(StagedSize() * kFloat);
  // Packing needs nine values of each weight of a vector.
  total = std::max(layout.Total(), RoundUp(9 * std::max(depth, outputs) * lanes * kFloat, kCacheLine));
}

ConvTables::ConvTables(const ConvPlan& plan) {
  const auto floats = [this](int64_t count) { return layout_.Take(count * kFloat); };
  const int64_t middle = plan.strips.middle, channels = plan.channels;
  ones_ = floats(std::max(middle, channels));
  norm_ = floats(BatchNormVectors::kVectors * channels);
  if (plan.pass != ConvPass::kBackward) forward_ = floats(kWinogradFrequencies * plan.depth * channels);
  if (plan.pass == ConvPass::kInference) return;
  strip_sums_ = floats(std::max(plan.strips.Count(), plan.strips.batch) * 2 * channels);
  if (plan.pass == ConvPass::kForward) return;
  transposed_ = floats(kWinogradFrequencies * plan.outputs * middle);
  rotated_ = floats(9 * plan.depth * plan.outputs);
  result_gradient_ = floats(plan.strips.batch * channels * plan.result_height * plan.result_width);
  weight_sums_ = floats(plan.groups * plan.WeightSums());
}

void ConvTables::Place(char* memory, ConvPlan* plan) const {
  const auto floats = [memory](int64_t offset) { return reinterpret_cast<float*>(memory + offset); };
  plan->ones = floats(ones_);
  std::fill_n(plan->ones, std::max(plan->strips.middle, plan->channels), 1.0f);
  plan->norm.Place(floats(norm_), plan->channels);
  plan->forward.weight = floats(forward_);
  plan->strip_sums = floats(strip_sums_);
  plan->transposed.weight = floats(transposed_);
  plan->rotated = floats(rotated_);
  plan->result_gradient = floats(result_gradient_);
  plan->weight_sums = floats(weight_sums_);
}

}  // namespace maam
