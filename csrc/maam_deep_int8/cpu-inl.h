// The kernel, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc,
// cpu_avx512vnni.cc).
#include "maam_deep_int8/winograd-inl.h"
#include "maam_int8/stage-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_deep_int8_module {

// The map of one branch: (rows, columns, channels), zeros outside the image, the second convolution's padding.
static void FirstConvolution(const DeepInt8Plan& plan, const Strip& s, int k, const uint8_t* image, uint8_t* patches,
                             uint8_t* map) {
  const MaamDeepInt8& p = plan.p;
  const int64_t kernel = p.first[k].kernel;
  const int64_t rows = 4 * s.rows + 2, columns = 4 * s.columns + 2;
  const int64_t bytes = PatchBytes(p.inputs, kernel);
  const uint8_t* first = image + (plan.strips.border - kernel / 2) * (plan.ImageStride() + p.inputs);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      CopyPatch(first + r * plan.ImageStride() + c * p.inputs, plan.ImageStride(), kernel, p.inputs,
                patches + (r * columns + c) * bytes);
    }
  }
  const RowsInt8 conv{
      patches,    bytes, bytes, p.first[k].weight, plan.first_bias[k], plan.first_scale[k], RoundUp(p.middle, kQuad),
      plan.middle};
  conv.Run(rows * columns, map);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t y = 4 * s.top - 1 + r;
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t x = 4 * s.left - 1 + c;
      if (y >= 0 && y < p.height && x >= 0 && x < p.width) continue;
      uint8_t* pixel = map + (r * columns + c) * plan.middle;
      for (int64_t i = 0; i < plan.middle; ++i) pixel[i] = 0;
    }
  }
}

template <int kBlocksHere>
static void SecondConvolution(const DeepInt8Plan& plan, const Strip& s, int k, int64_t block, const int16_t* input,
                              int32_t* product, int32_t* sums) {
  const int64_t first = block * kOutputBlock;
  Multiply<kBlocksHere>(plan, s, input, plan.p.second[k] + first * kWinogradFrequencies * plan.Pairs(), product);
  AddPooled<kBlocksHere>(plan, s, product, plan.second_bias[k] + first, k == 0, sums + first);
}

// G, and the 1x1 convolution row by row of pooled pixels.
static void Reduce(const DeepInt8Plan& plan, const Strip& s, const int32_t* sums, uint8_t* panel) {
  const MaamDeepInt8& p = plan.p;
  for (int64_t pixel = 0; pixel < 4 * s.Tiles(); ++pixel) {
    const int64_t at = pixel * plan.channels;
    for (int64_t c = 0; c < plan.channels; c += I32::kLanes) {
      StoreRounded(panel + at + c, Requantise(Load(sums + at + c), Load(plan.scale + c)));
    }
  }
  const int64_t width = RoundUp(p.outputs, kQuad);
  const int64_t left = 2 * s.left;
  const int64_t count = plan.pooled_width - left < 2 * s.columns ? plan.pooled_width - left : 2 * s.columns;
  for (int64_t r = 0; r < 2 * s.rows; ++r) {
    const int64_t y = 2 * s.top + r;
    if (y >= plan.pooled_height) break;
    const RowsInt8 reduce{panel + r * 2 * s.columns * plan.channels,
                          plan.channels,
                          RoundUp(p.channels, kQuad),
                          p.reduce.weight,
                          plan.reduce_bias,
                          plan.reduce_scale,
                          width,
                          width};
    reduce.Run(count, p.f + ((s.image * plan.pooled_height + y) * plan.pooled_width + left) * width);
  }
}

}  // namespace maam_deep_int8_module
}  // namespace MAAM_ISA

void MAAM_VARIANT(maam_deep_int8)(const DeepInt8Plan& plan, int64_t index, char* scratch) {
  using namespace MAAM_ISA;
  using namespace MAAM_ISA::maam_deep_int8_module;
  const MaamDeepInt8& p = plan.p;
  const Strip s = StripAt(plan.strips, index);
  const auto bytes = [scratch](int64_t offset) { return reinterpret_cast<uint8_t*>(scratch + offset); };
  int16_t* input = reinterpret_cast<int16_t*>(scratch + plan.input);
  int32_t* product = reinterpret_cast<int32_t*>(scratch + plan.product);
  int32_t* sums = reinterpret_cast<int32_t*>(scratch + plan.sums);
  const int64_t border = plan.strips.border;
  const ImageBytes image{
      p.x + s.image * p.inputs * p.height * p.width, p.inputs, p.height, p.width, p.per_step, p.zero};
  image.Stage(4 * s.top - 1 - border, 4 * s.left - 1 - border, 4 * s.rows + 2 + 2 * border, plan.ImageStride(),
              bytes(plan.image));
  const int64_t blocks = plan.channels / kOutputBlock;
  for (int k = 0; k < p.branches; ++k) {
    FirstConvolution(plan, s, k, bytes(plan.image), bytes(plan.patches), bytes(plan.map));
    TransformMap(plan, s, bytes(plan.map), reinterpret_cast<int16_t*>(scratch + plan.half), input);
    int64_t block = 0;
    for (; block + kBlocks <= blocks; block += kBlocks) {
      SecondConvolution<kBlocks>(plan, s, k, block, input, product, sums);
    }
    for (; block < blocks; ++block) SecondConvolution<1>(plan, s, k, block, input, product, sums);
  }
  Reduce(plan, s, sums, bytes(plan.panel));
}

}  // namespace maam
