#include "maam_deep_int8/plan.h"

#include <algorithm>

namespace maam {

DeepInt8Plan::DeepInt8Plan(const MaamDeepInt8& problem, int threads)
    : p(problem),
      pooled_height(p.height / 2),
      pooled_width(p.width / 2),
      middle(RoundUp(p.middle, kMapChannels)),
      channels(BlocksOf(p.channels) * kOutputBlock),
      outputs(BlocksOf(p.outputs) * kOutputBlock) {
  strips.batch = p.batch;
  strips.inputs = p.inputs;
  strips.height = p.height;
  strips.width = p.width;
  strips.tile_rows = CeilDiv(pooled_height, 2);
  strips.tile_columns = CeilDiv(pooled_width, 2);
  int64_t patch = 0;
  for (int k = 0; k < p.branches; ++k) {
    strips.border = std::max(strips.border, p.first[k].kernel / 2);
    patch = std::max(patch, PatchBytes(p.inputs, p.first[k].kernel));
  }
  strips.Cut(kDeepInt8Tiles, threads);

  constexpr int64_t kShort = sizeof(int16_t), kInt = sizeof(int32_t);
  const int64_t pixels = strips.MapRows() * MapColumns();
  ScratchLayout layout;
  image = layout.Take((strips.MapRows() + 2 * strips.border) * ImageStride() + kCopyBytes);
  patches = layout.Take(pixels * patch + kCopyBytes);
  map = layout.Take(pixels * middle);
  half = layout.Take(6 * MapColumns() * kMapChannels * kShort);
  input = layout.Take(kWinogradFrequencies * FrequencyStride() * kShort);
  product = layout.Take(kWinogradFrequencies * strips.tiles * 2 * kOutputBlock * kInt);
  sums = layout.Take(4 * strips.tiles * channels * kInt);
  panel = layout.Take(4 * strips.tiles * channels);
  total = layout.Total();
}

int64_t DeepInt8Plan::TableBytes() const {
  const int64_t first = BlocksOf(p.middle) * kOutputBlock;
  return RoundUp((p.branches * (2 * first + channels) + channels + 2 * outputs) * int64_t{sizeof(int32_t)}, kCacheLine);
}

void DeepInt8Plan::FillTables(char* memory) {
  const int64_t first = BlocksOf(p.middle) * kOutputBlock;
  for (int k = 0; k < p.branches; ++k) {
    first_bias[k] = Padded(p.first[k].bias, p.middle, first, &memory);
    first_scale[k] = Padded(p.first_scale[k], p.middle, first, &memory);
    second_bias[k] = Padded(p.second_bias[k], p.channels, channels, &memory);
  }
  scale = Padded(p.scale, p.channels, channels, &memory);
  reduce_bias = Padded(p.reduce.bias, p.outputs, outputs, &memory);
  reduce_scale = Padded(p.reduce_scale, p.outputs, outputs, &memory);
}

}  // namespace maam
