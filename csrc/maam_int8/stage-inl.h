// What the strips of both modules on bytes begin and end with: the image in bytes, what the taps of a convolution read
// at each pixel, and the 1x1 convolution. Compiled for each instruction set.
#pragma once

#include "core/dot_int8-inl.h"
#include "maam_int8/plan.h"

namespace maam {
namespace MAAM_ISA {

// to[i * step] = the byte that stands for from[i].
static void QuantiseRow(const float* from, int64_t count, float per_step, float zero, uint8_t* to, int64_t step) {
  const F32 limit = Set(127.0f);
  for (int64_t x = 0; x < count; x += F32::kLanes) {
    const int64_t n = count - x < F32::kLanes ? count - x : F32::kLanes;
    const F32 value = n == F32::kLanes ? Load(from + x) : LoadFirst(from + x, n);
    const F32 number = WhereEqual(value, value, value);
    uint8_t bytes[F32::kLanes];
    StoreRounded(bytes, Min(Relu(Add(Mul(number, Set(per_step)), Set(zero))), limit));
    for (int64_t i = 0; i < n; ++i) to[(x + i) * step] = bytes[i];
  }
}

namespace maam_int8_module {

MAAM_INLINE void CopyTaps(const uint8_t* from, int64_t bytes, uint8_t* to) {
  for (int64_t i = 0; i < bytes; i += kCopyBytes) __builtin_memcpy(to + i, from + i, kCopyBytes);
}

// The rows of an image that a strip's taps reach: (rows, columns, input channels), `zero` around the image.
static void StageImage(const MaamInt8Plan& plan, int64_t image, int64_t row, int64_t rows, uint8_t* bytes) {
  const MaamInt8& p = plan.p;
  const int64_t columns = 2 * plan.pooled_width + plan.border < p.width ? 2 * plan.pooled_width + plan.border : p.width;
  for (int64_t r = 0; r < 2 * rows + 2 * plan.border; ++r, bytes += plan.ImageStride()) {
    const int64_t y = 2 * row + r - plan.border;
    const uint8_t zero = static_cast<uint8_t>(p.zero);
    for (int64_t i = 0; i < plan.ImageStride(); ++i) bytes[i] = zero;
    if (y < 0 || y >= p.height) continue;
    for (int64_t c = 0; c < p.inputs; ++c) {
      const float* from = p.x + ((image * p.inputs + c) * p.height + y) * p.width;
      QuantiseRow(from, columns, p.per_step, p.zero, bytes + plan.border * p.inputs + c, p.inputs);
    }
  }
}

// (pooled pixels, window, patch): rows of taps side by side. Each copy may write beyond its row into what the next one
// writes.
static void StagePatches(const MaamInt8Plan& plan, int64_t kernel, int64_t rows, const uint8_t* bytes, uint8_t* to) {
  const int64_t inputs = plan.p.inputs;
  const int64_t patch = PatchBytes(inputs, kernel);
  const int64_t skip = plan.border - kernel / 2;
  for (int64_t pixel = 0; pixel < rows * plan.pooled_width; ++pixel) {
    for (int64_t w = 0; w < kWindow; ++w, to += patch) {
      const int64_t y = 2 * (pixel / plan.pooled_width) + w / 2 + skip;
      const int64_t x = 2 * (pixel % plan.pooled_width) + w % 2 + skip;
      const uint8_t* from = bytes + y * plan.ImageStride() + x * inputs;
      for (int64_t i = 0; i < kernel; ++i, from += plan.ImageStride()) {
        CopyTaps(from, kernel * inputs, to + i * kernel * inputs);
      }
    }
  }
}

}  // namespace maam_int8_module

// F = requantised (panel W^T + bias), channels last.
struct ReduceInt8 {
  const uint8_t* panel;  // rows of G
  int64_t stride;
  int64_t depth;  // a multiple of kQuad
  const int8_t* weight;
  const int32_t* bias;  // padded to whole blocks, as scale
  const float* scale;
  int64_t outputs;

  template <int kRowsHere, int kBlocksHere>
  MAAM_MEMBER void Rows(int64_t block, int64_t pixel, uint8_t* f) const {
    constexpr int kVectors = kBlocksHere * kBlockVectors;
    const int64_t width = RoundUp(outputs, kQuad);
    const int64_t first = block * kOutputBlock;
    I32 sum[kRowsHere][kVectors];
    ZeroSums(sum);
    AddDots<kRowsHere, kBlocksHere>(panel + pixel * stride, stride, weight + first * depth, kOutputBlock * depth,
                                    depth / kQuad, sum);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const int64_t o = first + v * I32::kLanes;
      const int64_t count = width - o;
      if (count <= 0) break;
      const I32 shift = Load(bias + o);
      const F32 factor = Load(scale + o);
#pragma GCC unroll 8
      for (int r = 0; r < kRowsHere; ++r) {
        uint8_t* to = f + (pixel + r) * width + o;
        const F32 y = Requantise(Add(sum[r][v], shift), factor);
        count >= I32::kLanes ? StoreRounded(to, y) : StoreFirstRounded(to, y, count);
      }
    }
  }

  template <int kBlocksHere>
  MAAM_MEMBER void Blocks(int64_t block, int64_t pixels, uint8_t* f) const {
    int64_t pixel = 0;
    for (; pixel + 4 <= pixels; pixel += 4) Rows<4, kBlocksHere>(block, pixel, f);
    for (; pixel < pixels; ++pixel) Rows<1, kBlocksHere>(block, pixel, f);
  }

  // f: rows of outputs rounded up to kQuad.
  MAAM_MEMBER void Run(int64_t pixels, uint8_t* f) const {
    const int64_t blocks = BlocksOf(outputs);
    int64_t block = 0;
    for (; block + kBlocks <= blocks; block += kBlocks) Blocks<kBlocks>(block, pixels, f);
    for (; block < blocks; ++block) Blocks<1>(block, pixels, f);
  }
};

}  // namespace MAAM_ISA
}  // namespace maam
