#include "maam_int8/plan.h"

#include <algorithm>

#include "core/ceil_div.h"

namespace maam {
namespace {}  // namespace

// The arithmetic of a pixel does not depend on the strip it lies in, so strips may follow the number of threads.
MaamInt8Plan::MaamInt8Plan(const MaamInt8& problem, int threads)
    : p(problem), pooled_height(p.height / 2), pooled_width(p.width / 2), border(0) {
  rows = std::clamp<int64_t>(kInt8Strip / pooled_width, 1, pooled_height);
  while (rows > 1 && p.batch * CeilDiv(pooled_height, rows) < threads) rows = CeilDiv(rows, 2);
  strips = CeilDiv(pooled_height, rows);
  for (int k = 0; k < p.branches; ++k) border = std::max(border, p.branch[k].kernel / 2);
  ScratchLayout layout;
  image = layout.Take((2 * rows + 2 * border) * ImageStride() + kCopyBytes);
  std::fill_n(patches, kKernelSizes, int64_t{0});
  for (int k = 0; k < p.branches; ++k) {
    int64_t& at = patches[p.branch[k].kernel / 2];
    if (at == 0)
      at = layout.Take(rows * pooled_width * kWindow * PatchBytes(p.inputs, p.branch[k].kernel) + kCopyBytes);
  }
  panel = layout.Take(rows * pooled_width * PanelStride());
  total = layout.Total();
}

int64_t MaamInt8Plan::TableBytes() const {
  const int64_t channels = PanelStride(), outputs = BlocksOf(p.outputs) * kOutputBlock;
  return RoundUp(((p.branches + 1) * channels + 2 * outputs) * int64_t{sizeof(int32_t)}, kCacheLine);
}

void MaamInt8Plan::FillTables(char* memory) {
  const int64_t channels = PanelStride(), outputs = BlocksOf(p.outputs) * kOutputBlock;
  for (int k = 0; k < p.branches; ++k) bias[k] = Padded(p.branch[k].bias, p.channels, channels, &memory);
  scale = Padded(p.scale, p.channels, channels, &memory);
  reduce_bias = Padded(p.reduce.bias, p.outputs, outputs, &memory);
  reduce_scale = Padded(p.reduce_scale, p.outputs, outputs, &memory);
}

}  // namespace maam
