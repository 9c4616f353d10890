// Products of rows of bytes with blocks of packed weights (core/int8.h): outputs are lanes, rows are broadcast four
// bytes at a time. Compiled for each instruction set, see core/simd.h.
#pragma once

#include "core/int8.h"
#include "core/simd_int8.h"

namespace maam {
namespace MAAM_ISA {

constexpr int kBlockVectors = static_cast<int>(kOutputBlock) / I32::kLanes;
// Blocks of outputs in registers at a time: with four rows or more, enough independent sums to hide the latency.
constexpr int kBlocks = kRegisters == 32 ? 2 : 1;

// sum[r][v] += <row r of x, weights of the outputs of vector v> over `quads` steps of four. Blocks lie block_bytes
// apart.
template <int kRows, int kBlocksHere>
MAAM_INLINE void AddDots(const uint8_t* x, int64_t row_bytes, const int8_t* weight, int64_t block_bytes, int64_t quads,
                         I32 (&sum)[kRows][kBlocksHere * kBlockVectors]) {
  for (int64_t q = 0; q < quads; ++q, x += kQuad, weight += kOutputBlock * kQuad) {
    Quads w[kBlocksHere * kBlockVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kBlocksHere * kBlockVectors; ++v) {
      w[v] = LoadQuads(weight + v / kBlockVectors * block_bytes + v % kBlockVectors * I32::kLanes * kQuad);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Quads row = BroadcastQuad(x + r * row_bytes);
#pragma GCC unroll 8
      for (int v = 0; v < kBlocksHere * kBlockVectors; ++v) sum[r][v] = AddDot(sum[r][v], row, w[v]);
    }
  }
}

template <int kRows, int kVectors>
MAAM_INLINE void ZeroSums(I32 (&sum)[kRows][kVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[r][v] = SetInt(0);
  }
}

// From a sum, its bias included, to the byte that stands for max(sum, 0) * scale: a float product, then a rounding, the
// same in every variant.
MAAM_INLINE F32 Requantise(I32 sum, F32 scale) {
  return Min(Mul(ToF32(Max(sum, SetInt(0))), scale), Set(static_cast<float>(kMaxActivation)));
}

}  // namespace MAAM_ISA
}  // namespace maam
