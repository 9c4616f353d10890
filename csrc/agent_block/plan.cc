#include "agent_block/plan.h"

#include <algorithm>

namespace maam {
namespace {

constexpr int64_t kFloat = sizeof(float);
constexpr int64_t kNormVectors = 7;
// Of a strip: enough to keep the sums of the weights' gradient in registers for long, few enough for the L2 cache.
constexpr int64_t kStripTiles = 24;

}  // namespace

BlockPlan::BlockPlan(const AgentBlock& problem, const AgentBlockSaved& with, int64_t vector_lanes)
    : p(problem), saved(with), lanes(vector_lanes), pooled_height(p.height / 2), pooled_width(p.width / 2) {
  channels = RoundUp(p.channels, kChannelBlock);
  strips.batch = p.batch;
  strips.inputs = p.inputs;
  strips.height = p.height;
  strips.width = p.width;
  strips.middle = RoundUp(p.middle, kChannelBlock);
  strips.tile_rows = CeilDiv(p.height, 4);
  strips.tile_columns = CeilDiv(p.width, 4);
  strips.border = p.kernel / 2;
  strips.Cut(kStripTiles, 1);
  groups = std::clamp<int64_t>(strips.Count(), 1, kMaxGroups);

  ScratchLayout layout;
  bordered = layout.Take(BorderedSize() * kFloat);
  patch = layout.Take(strips.PatchSize() * kFloat);
  map = layout.Take(strips.MapSize() * kFloat);
  gradient = layout.Take(channels * GradientRows() * GradientStride() * kFloat);
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
  norms_ = floats(kNormVectors * (middle + channels));
  taps_sums_ = floats(plan.groups * (taps + 1) * middle);
  strip_sums_ = floats(std::max(plan.strips.Count(), plan.p.batch) * 2 * std::max(middle, channels));
  if (pass != BlockPass::kForward) {
    transposed_ = floats(kWinogradFrequencies * plan.p.channels * middle);
    rotated_ = floats(9 * plan.p.middle * plan.p.channels);
    pooled_gradient_ = floats(plan.p.batch * channels * plan.pooled_height * plan.pooled_width);
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
  float* at = floats(norms_);
  const auto norm = [&at](int64_t padded) {
    BatchNormVectors vectors;
    for (float** vector : {&vectors.scale, &vectors.shift, &vectors.mean, &vectors.rstd, &vectors.offset,
                           &vectors.slope, &vectors.sign}) {
      *vector = at;
      at += padded;
    }
    return vectors;
  };
  plan->first_norm = norm(middle);
  plan->second_norm = norm(channels);
  plan->taps_sums = floats(taps_sums_);
  plan->strip_sums = floats(strip_sums_);
  if (pass_ != BlockPass::kForward) {
    plan->transposed.weight = floats(transposed_);
    plan->rotated = floats(rotated_);
    plan->pooled_gradient = floats(pooled_gradient_);
    plan->weight_sums = floats(weight_sums_);
    plan->by_tap = floats(by_tap_);
  } else {
    plan->second.weight = floats(second_);
    plan->patch_sums = floats(patch_sums_);
  }
}

void FillNorm(const BlockNorm& norm, const double* statistics, int64_t count, int64_t padded, BatchNormVectors* to) {
  for (int64_t c = 0; c < padded; ++c) {
    const bool exists = c < count;
    const double mean = exists ? statistics[c] : 0;
    const double rstd = exists ? statistics[count + c] : 0;
    const double scale = exists ? norm.gamma[c] * rstd : 0;
    to->scale[c] = static_cast<float>(scale);
    to->shift[c] = static_cast<float>(exists ? norm.beta[c] - mean * scale : 0);
    to->mean[c] = static_cast<float>(mean);
    to->rstd[c] = static_cast<float>(rstd);
    to->sign[c] = exists && norm.gamma[c] < 0 ? -1.0f : 1.0f;
  }
}

}  // namespace maam
