// The kernel, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc,
// cpu_avx512vnni.cc).
#include "core/dot_int8-inl.h"
#include "maam_int8/plan.h"
#include "maam_int8/stage-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_int8_module {

// (pooled pixels, window, patch)
static void StagePatches(const MaamInt8Plan& plan, int64_t kernel, int64_t rows, const uint8_t* image, uint8_t* to) {
  const int64_t inputs = plan.p.inputs;
  const int64_t skip = plan.border - kernel / 2;
  for (int64_t pixel = 0; pixel < rows * plan.pooled_width; ++pixel) {
    for (int64_t w = 0; w < kWindow; ++w, to += PatchBytes(inputs, kernel)) {
      const int64_t y = 2 * (pixel / plan.pooled_width) + w / 2 + skip;
      const int64_t x = 2 * (pixel % plan.pooled_width) + w % 2 + skip;
      CopyPatch(image + y * plan.ImageStride() + x * inputs, plan.ImageStride(), kernel, inputs, to);
    }
  }
}

// G of the strip for kBlocksHere blocks of channels: convolutions at the four pixels of each window, their maximum, the
// sum over branches.
template <int kBlocksHere>
static void FillPanel(const MaamInt8Plan& plan, int64_t block, int64_t pixels, const char* scratch, uint8_t* panel) {
  constexpr int kVectors = kBlocksHere * kBlockVectors;
  const MaamInt8& p = plan.p;
  const int64_t first = block * kOutputBlock;
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    I32 total[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) total[v] = SetInt(0);
    for (int k = 0; k < p.branches; ++k) {
      const int64_t bytes = PatchBytes(p.inputs, p.branch[k].kernel);
      const uint8_t* patch = reinterpret_cast<const uint8_t*>(scratch + plan.Patches(p.branch[k].kernel));
      I32 sum[kWindow][kVectors];
      ZeroSums(sum);
      AddDots<kWindow, kBlocksHere>(patch + pixel * kWindow * bytes, bytes, p.branch[k].weight + first * bytes,
                                    kOutputBlock * bytes, bytes / kQuad, sum);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const I32 top = Max(Max(sum[0][v], sum[1][v]), Max(sum[2][v], sum[3][v]));
        const I32 shifted = Add(top, Load(plan.bias[k] + first + v * I32::kLanes));
        total[v] = Add(total[v], Max(shifted, SetInt(0)));
      }
    }
    uint8_t* to = panel + pixel * plan.PanelStride() + first;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      StoreRounded(to + v * I32::kLanes, Requantise(total[v], Load(plan.scale + first + v * I32::kLanes)));
    }
  }
}

}  // namespace maam_int8_module
}  // namespace MAAM_ISA

void MAAM_VARIANT(maam_int8)(const MaamInt8Plan& plan, int64_t image, int64_t row, int64_t rows, char* scratch) {
  using namespace MAAM_ISA;
  using namespace MAAM_ISA::maam_int8_module;
  const MaamInt8& p = plan.p;
  uint8_t* panel = reinterpret_cast<uint8_t*>(scratch + plan.panel);
  uint8_t* bytes = reinterpret_cast<uint8_t*>(scratch + plan.image);
  const int64_t pixels = rows * plan.pooled_width;
  const ImageBytes stage{p.x + image * p.inputs * p.height * p.width, p.inputs, p.height, p.width, p.per_step, p.zero};
  stage.Stage(2 * row - plan.border, -plan.border, 2 * (rows + plan.border), plan.ImageStride(), bytes);
  for (int64_t kernel = 1; kernel <= 2 * kKernelSizes; kernel += 2) {
    if (plan.Patches(kernel) == 0) continue;
    StagePatches(plan, kernel, rows, bytes, reinterpret_cast<uint8_t*>(scratch + plan.Patches(kernel)));
  }
  const int64_t blocks = BlocksOf(p.channels);
  int64_t block = 0;
  for (; block + kBlocks <= blocks; block += kBlocks) FillPanel<kBlocks>(plan, block, pixels, scratch, panel);
  for (; block < blocks; ++block) FillPanel<1>(plan, block, pixels, scratch, panel);
  const int64_t width = RoundUp(p.outputs, kQuad);
  const RowsInt8 reduce{panel,
                        plan.PanelStride(),
                        RoundUp(p.channels, kQuad),
                        p.reduce.weight,
                        plan.reduce_bias,
                        plan.reduce_scale,
                        width,
                        width};
  const int64_t pixel = (image * plan.pooled_height + row) * plan.pooled_width;
  reduce.Run(pixels, p.f + pixel * width);
}

}  // namespace maam
