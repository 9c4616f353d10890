// What the strips of both modules on bytes begin and end with: the image in bytes, what the taps of a convolution read
// at each pixel, and the 1x1 convolution. Compiled for each instruction set.
#pragma once

#include "core/dot_int8-inl.h"
#include "maam_int8/plan.h"

namespace maam {
namespace MAAM_ISA {

// An image as bytes.
struct ImageBytes {
  const float* x;
  int64_t inputs, height, width;
  float per_step, zero;

  // to[i * inputs] = the byte that stands for from[i]. A NaN is not equal to itself, and counts as 0.
  MAAM_MEMBER void Row(const float* from, int64_t count, uint8_t* to) const {
    for (int64_t i = 0; i < count; i += F32::kLanes) {
      const int64_t n = count - i < F32::kLanes ? count - i : F32::kLanes;
      const F32 value = n == F32::kLanes ? Load(from + i) : LoadFirst(from + i, n);
      const F32 steps = Add(Mul(WhereEqual(value, value, value), Set(per_step)), Set(zero));
      uint8_t bytes[F32::kLanes];
      StoreRounded(bytes, Min(Relu(steps), Set(static_cast<float>(kMaxActivation))));
      for (int64_t lane = 0; lane < n; ++lane) to[(i + lane) * inputs] = bytes[lane];
    }
  }

  // Rows from pixel (top, left) of the image on, `stride` bytes each: (rows, columns, input channels), `zero` around
  // the image.
  MAAM_MEMBER void Stage(int64_t top, int64_t left, int64_t rows, int64_t stride, uint8_t* to) const {
    const int64_t begin = left < 0 ? 0 : left;
    const int64_t end = left + stride / inputs < width ? left + stride / inputs : width;
    for (int64_t r = 0; r < rows; ++r, to += stride) {
      const int64_t y = top + r;
      for (int64_t i = 0; i < stride; ++i) to[i] = static_cast<uint8_t>(zero);
      if (y < 0 || y >= height) continue;
      for (int64_t c = 0; c < inputs; ++c) {
        Row(x + (c * height + y) * width + begin, end - begin, to + (begin - left) * inputs + c);
      }
    }
  }
};

// What the taps of one pixel read, rows side by side, channels last. Each copy may write up to kCopyBytes too much,
// into what the next one writes.
MAAM_INLINE void CopyPatch(const uint8_t* from, int64_t stride, int64_t kernel, int64_t inputs, uint8_t* to) {
  const int64_t bytes = kernel * inputs;
  for (int64_t row = 0; row < kernel; ++row, from += stride, to += bytes) {
    for (int64_t i = 0; i < bytes; i += kCopyBytes) __builtin_memcpy(to + i, from + i, kCopyBytes);
  }
}

// Bytes that stand for max(x W^T + bias, 0) * scale, outputs last.
struct RowsInt8 {
  const uint8_t* x;
  int64_t stride;
  int64_t depth;  // a multiple of kQuad
  const int8_t* weight;
  const int32_t* bias;  // padded to whole blocks, as scale
  const float* scale;
  int64_t width;  // of a row of results, outputs rounded up to kQuad
  int64_t to_stride;

  template <int kRowsHere, int kBlocksHere>
  MAAM_MEMBER void Rows(int64_t block, int64_t pixel, uint8_t* to) const {
    constexpr int kVectors = kBlocksHere * kBlockVectors;
    const int64_t first = block * kOutputBlock;
    I32 sum[kRowsHere][kVectors];
    ZeroSums(sum);
    AddDots<kRowsHere, kBlocksHere>(x + pixel * stride, stride, weight + first * depth, kOutputBlock * depth,
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
        uint8_t* row = to + (pixel + r) * to_stride + o;
        const F32 y = Requantise(Add(sum[r][v], shift), factor);
        count >= I32::kLanes ? StoreRounded(row, y) : StoreFirstRounded(row, y, count);
      }
    }
  }

  template <int kBlocksHere>
  MAAM_MEMBER void Blocks(int64_t block, int64_t pixels, uint8_t* to) const {
    int64_t pixel = 0;
    for (; pixel + 4 <= pixels; pixel += 4) Rows<4, kBlocksHere>(block, pixel, to);
    for (; pixel < pixels; ++pixel) Rows<1, kBlocksHere>(block, pixel, to);
  }

  MAAM_MEMBER void Run(int64_t pixels, uint8_t* to) const {
    const int64_t blocks = BlocksOf(width);
    int64_t block = 0;
    for (; block + kBlocks <= blocks; block += kBlocks) Blocks<kBlocks>(block, pixels, to);
    for (; block < blocks; ++block) Blocks<1>(block, pixels, to);
  }
};

}  // namespace MAAM_ISA
}  // namespace maam
