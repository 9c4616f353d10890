#include "maam_deep/plan.h"

#include <algorithm>
#include <cmath>

namespace maam {
namespace {

constexpr int64_t kFloat = sizeof(float);
constexpr int64_t kFrequencies = 36;
constexpr int64_t kBlockTiles = 8;  // of any variant's block, or a multiple of it
// Of a strip's intermediate results: what an L2 cache of 1 MiB holds besides the panels that stream through it.
constexpr int64_t kStripBytes = 700 << 10;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

// The arithmetic of a tile does not depend on the strip it lies in, so strips may follow the number of threads.
DeepPlan::DeepPlan(const MaamDeepInference& problem, int64_t vector_lanes, int threads)
    : p(problem), lanes(vector_lanes), pooled_height(p.height / 2), pooled_width(p.width / 2) {
  tile_rows = CeilDiv(pooled_height, 2);
  tile_columns = CeilDiv(pooled_width, 2);
  middle = RoundUp(p.middle, Columns());
  channels = RoundUp(p.channels, Columns());
  outputs = RoundUp(p.outputs, Columns());

  const int64_t tile_bytes = kFloat * ((kFrequencies + 20) * middle + kFrequencies * Columns() + 4 * channels);
  const int64_t most = std::max(kBlockTiles, kStripBytes / tile_bytes / kBlockTiles * kBlockTiles);
  strips_across = CeilDiv(tile_columns, most);
  columns = CeilDiv(tile_columns, strips_across);
  strips_down = CeilDiv(tile_rows, std::clamp<int64_t>(most / columns, 1, tile_rows));
  while (strips_down < tile_rows && p.batch * Strips() < threads) strips_down = std::min(2 * strips_down, tile_rows);
  rows = CeilDiv(tile_rows, strips_down);
  strips_down = CeilDiv(tile_rows, rows);
  tiles = RoundUp(rows * columns, kBlockTiles);

  border = 0;
  for (int k = 0; k < p.branches; ++k) border = std::max(border, p.first[k].kernel / 2);
  // A block of pixels may reach behind a short row.
  map_stride = MapColumns() + kBlockTiles;
  patch_stride = map_stride + 2 * border;
  patch_rows = MapRows() + 2 * border;

  ScratchLayout layout;
  patch = layout.Take(p.inputs * patch_rows * patch_stride * kFloat);
  map = layout.Take(middle * MapRows() * map_stride * kFloat);
  sums = layout.Take(4 * tiles * channels * kFloat);
  input = layout.Take(kFrequencies * FrequencyStride() * kFloat);
  product = layout.Take(kFrequencies * tiles * Columns() * kFloat);
  total = layout.Total();
}

DeepTables::DeepTables(const DeepPlan& plan) {
  for (int k = 0; k < plan.p.branches; ++k) {
    const int64_t taps = plan.p.inputs * plan.p.first[k].kernel * plan.p.first[k].kernel;
    first_[k] = Take(plan.middle, taps);
    second_[k] = Take(plan.channels, kFrequencies * plan.p.middle);
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
    return DeepPanels{reinterpret_cast<float*>(memory + at.weight), reinterpret_cast<float*>(memory + at.shift)};
  };
  AggregateForward mixture;
  mixture.branches = p.branches;
  mixture.alpha = p.alpha;
  SoftmaxWeights(mixture, plan->mix);
  for (int k = 0; k < p.branches; ++k) {
    const int64_t kernel = p.first[k].kernel;
    DeepBranch& branch = plan->branch[k];
    branch = {p.inputs * kernel * kernel, panels(first_[k]), panels(second_[k]),
              reinterpret_cast<int64_t*>(memory + offset_[k])};
    for (int64_t tap = 0; tap < branch.taps; ++tap) {
      const int64_t y = tap / kernel % kernel - kernel / 2 + plan->border;
      const int64_t x = tap % kernel - kernel / 2 + plan->border;
      branch.offset[tap] = (tap / (kernel * kernel) * plan->patch_rows + y) * plan->patch_stride + x;
    }
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
