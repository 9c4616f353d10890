#include "maam_deep/plan.h"

#include <algorithm>
#include <cmath>

namespace maam {
namespace {

constexpr int64_t kFloat = sizeof(float);
// Of a strip's intermediate results. Larger strips spare panels, which stream through the L2 cache of 1 MiB, but where
// the pages of working memory happen to fall into the same sets they take up to a sixth longer.
constexpr int64_t kStripBytes = 400 << 10;
constexpr int64_t kPackingStripBytes = 700 << 10;  // of strips that make their panels themselves

int64_t FirstTaps(const MaamDeepInference& p, int k) { return p.inputs * p.first[k].kernel * p.first[k].kernel; }

}  // namespace

DeepPlan::DeepPlan(const MaamDeepInference& problem, int64_t vector_lanes, int threads)
    : p(problem), lanes(vector_lanes), pooled_height(p.height / 2), pooled_width(p.width / 2) {
  wide_depth = p.reduce.half != nullptr ? p.channels : 0;
  for (int k = 0; k < p.branches; ++k) {
    if (p.first[k].half != nullptr) wide_depth = std::max(wide_depth, FirstTaps(p, k));
    if (p.second[k].half != nullptr) wide_depth = std::max(wide_depth, 9 * p.middle);
  }
  const int64_t width = 2 * lanes;  // of a panel
  channels = RoundUp(p.channels, width);
  outputs = RoundUp(p.outputs, width);
  strips.batch = p.batch;
  strips.inputs = p.inputs;
  strips.height = p.height;
  strips.width = p.width;
  strips.middle = RoundUp(p.middle, width);
  strips.tile_rows = CeilDiv(pooled_height, 2);
  strips.tile_columns = CeilDiv(pooled_width, 2);
  for (int k = 0; k < p.branches; ++k) strips.border = std::max(strips.border, p.first[k].kernel / 2);
  const int64_t tile_bytes =
      kFloat * ((kWinogradFrequencies + 20) * strips.middle + kWinogradFrequencies * width + 4 * channels);
  const auto cut = [&](int64_t bytes) {
    strips.Cut(std::max(kBlockTiles, bytes / tile_bytes / kBlockTiles * kBlockTiles), threads);
  };
  cut(kPackingStripBytes);
  packs_by_strip = strips.Count() <= 2 * threads;
  if (!packs_by_strip) cut(kStripBytes);

  ScratchLayout layout;
  patch = layout.Take(strips.PatchSize() * kFloat);
  map = layout.Take(strips.MapSize() * kFloat);
  sums = layout.Take(4 * strips.tiles * channels * kFloat);
  input = layout.Take(kWinogradFrequencies * strips.FrequencyStride(strips.middle) * kFloat);
  product = layout.Take(kWinogradFrequencies * strips.tiles * width * kFloat);
  panel = layout.Take(packs_by_strip ? kWinogradFrequencies * p.middle * width * kFloat + PackBytes() : 0);
  total = layout.Total();
}

DeepTables::DeepTables(const DeepPlan& plan) {
  for (int k = 0; k < plan.p.branches; ++k) {
    const int64_t taps = FirstTaps(plan.p, k);
    first_[k] = Take(plan.strips.middle, taps);
    second_[k] = Take(plan.channels, plan.packs_by_strip ? 0 : kWinogradFrequencies * plan.p.middle);
    second_scale_[k] = layout_.Take(plan.channels * kFloat);
    offset_[k] = layout_.Take(taps * int64_t{sizeof(int64_t)});
  }
  reduce_ = Take(plan.outputs, plan.p.channels);
}

DeepTables::Offsets DeepTables::Take(int64_t outputs, int64_t depth) {
  return {layout_.Take(outputs * depth * kFloat), layout_.Take(outputs * kFloat)};
}

void DeepTables::Place(char* memory, DeepPlan* plan) const {
  const MaamDeepInference& p = plan->p;
  const auto panels = [memory](const Offsets& at) {
    return Panels{reinterpret_cast<float*>(memory + at.weight), reinterpret_cast<float*>(memory + at.shift)};
  };
  AggregateForward mixture;
  mixture.branches = p.branches;
  mixture.alpha = p.alpha;
  SoftmaxWeights(mixture, plan->mix);
  for (int k = 0; k < p.branches; ++k) {
    FirstPanels& first = plan->branch[k].first;
    first = {panels(first_[k]), FirstTaps(p, k), reinterpret_cast<int64_t*>(memory + offset_[k])};
    plan->strips.FillOffsets(p.first[k].kernel, first.offset);
    plan->branch[k].second = panels(second_[k]);
    plan->branch[k].second_scale = reinterpret_cast<float*>(memory + second_scale_[k]);
  }
  plan->reduce = panels(reduce_);
}

void FoldNorm(const ConvNorm& c, double factor, int64_t first, int64_t count, int64_t lanes, float* scale,
              float* shift) {
  for (int64_t i = 0; i < lanes; ++i) {
    const int64_t channel = first + i;
    if (i < count) {
      const double exact = c.gamma[channel] / std::sqrt(static_cast<double>(c.variance[channel]) + c.eps);
      scale[i] = static_cast<float>(factor * exact);
      shift[i] = static_cast<float>(factor * (c.beta[channel] - c.mean[channel] * exact));
    } else {
      scale[i] = shift[i] = 0;
    }
  }
}

}  // namespace maam
