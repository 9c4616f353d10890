// Winograd's F(4x4, 3x3) in whole numbers (maam_deep_int8.h): the transforms of a strip and the products between them.
// Compiled for each instruction set.
#pragma once

#include "core/dot_int8-inl.h"
#include "core/simd_int16.h"
#include "maam_deep_int8/plan.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_deep_int8_module {

// Tiles whose products are in registers at a time.
constexpr int kTileRows = kRegisters == 32 ? 8 : 4;
constexpr int32_t kInverseOf9 = 0x38E38E39;  // modulo 2^32

// B^T d
MAAM_INLINE void TransformInput(const I16 (&d)[6], I16 (&v)[6]) {
  const I16 even_a = Sub(d[4], Shift<2>(d[2])), odd_a = Sub(d[3], Shift<2>(d[1]));
  const I16 even_b = Sub(d[4], d[2]), odd_b = Shift<1>(Sub(d[3], d[1]));
  v[0] = Add(Sub(Shift<2>(Sub(d[0], d[2])), d[2]), d[4]);
  v[1] = Add(even_a, odd_a);
  v[2] = Sub(even_a, odd_a);
  v[3] = Add(even_b, odd_b);
  v[4] = Sub(even_b, odd_b);
  v[5] = Add(Sub(Shift<2>(Sub(d[1], d[3])), d[3]), d[5]);
}

// 24 A^T C' m, C = 24 C': whole numbers of which 1/24 is the result.
MAAM_INLINE void TransformOutput(const I32 (&m)[6], I32 (&y)[4]) {
  const I32 even_a = Shift<2>(Add(m[1], m[2])), odd_a = Shift<2>(Sub(m[1], m[2]));
  const I32 even_b = Add(m[3], m[4]), odd_b = Shift<1>(Sub(m[3], m[4]));
  const I32 first = Shift<1>(m[0]), last = Shift<3>(m[5]);
  y[0] = Add(Add(first, Shift<1>(first)), Sub(even_b, even_a));
  y[1] = Sub(odd_b, odd_a);
  y[2] = Sub(Shift<2>(even_b), even_a);
  y[3] = Add(Sub(Shift<2>(odd_b), odd_a), Add(last, Shift<1>(last)));
}

// B^T d B of all tiles from the map (rows, columns, channels): (frequencies, tiles, channels). Columns are transformed
// once for both tiles that share them, into `half`.
static void TransformMap(const DeepInt8Plan& plan, const Strip& s, const uint8_t* map, int16_t* half, int16_t* input) {
  const int64_t columns = 4 * s.columns + 2;
  const int64_t row_bytes = columns * plan.middle;
  for (int64_t c = 0; c < plan.p.middle; c += I16::kLanes) {
    for (int64_t row = 0; row < s.rows; ++row) {
      for (int64_t x = 0; x < columns; ++x) {
        const uint8_t* from = map + 4 * row * row_bytes + x * plan.middle + c;
        I16 d[6], v[6];
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) d[i] = LoadWide(from + i * row_bytes);
        TransformInput(d, v);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) Store(half + (i * columns + x) * I16::kLanes, v[i]);
      }
      for (int64_t tile = 0; tile < s.columns; ++tile) {
        int16_t* to = input + (row * s.columns + tile) * plan.middle + c;
        for (int i = 0; i < 6; ++i) {
          I16 d[6], v[6];
#pragma GCC unroll 6
          for (int j = 0; j < 6; ++j) d[j] = Load(half + (i * columns + 4 * tile + j) * I16::kLanes);
          TransformInput(d, v);
#pragma GCC unroll 6
          for (int j = 0; j < 6; ++j, to += plan.FrequencyStride()) Store(to, v[j]);
        }
      }
    }
  }
}

// The products of kBlocksHere blocks of outputs for all frequencies: (tiles, vectors, frequencies, lanes).
template <int kBlocksHere>
static void Multiply(const DeepInt8Plan& plan, const Strip& s, const int16_t* input, const int32_t* weight,
                     int32_t* product) {
  constexpr int kVectors = kBlocksHere * kBlockVectors;
  const int64_t block = kWinogradFrequencies * plan.Pairs() * kOutputBlock;
  for (int64_t f = 0; f < kWinogradFrequencies; ++f, weight += plan.Pairs() * kOutputBlock) {
    const int16_t* rows = input + f * plan.FrequencyStride();
    for (int64_t tile = 0; tile < s.Tiles(); tile += kTileRows, rows += kTileRows * plan.middle) {
      I32 sum[kTileRows][kVectors];
      ZeroSums(sum);
      for (int64_t pair = 0; pair < plan.Pairs(); ++pair) {
        const int32_t* at = weight + pair * kOutputBlock;
        I32 w[kVectors];
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
          w[v] = Load(at + v / kBlockVectors * block + v % kBlockVectors * I32::kLanes);
        }
#pragma GCC unroll 8
        for (int r = 0; r < kTileRows; ++r) {
          const I32 x = BroadcastPair(rows + r * plan.middle + 2 * pair);
#pragma GCC unroll 8
          for (int v = 0; v < kVectors; ++v) sum[r][v] = AddPairs(sum[r][v], x, w[v]);
        }
      }
      int32_t* to = product + (tile * kVectors * kWinogradFrequencies + f) * I32::kLanes;
#pragma GCC unroll 8
      for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v, to += kWinogradFrequencies * I32::kLanes) Store(to, sum[r][v]);
      }
    }
  }
}

// max(Y, 0) with its bias at 2 x 2 pooled pixels of one vector of outputs of one tile.
MAAM_INLINE void PoolTile(const int32_t* m, I32 bias, I32 (&pooled)[4]) {
  I32 half[4][6];
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    I32 column[6], z[4];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) column[i] = Load(m + (i * 6 + j) * I32::kLanes);
    TransformOutput(column, z);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) half[i][j] = z[i];
  }
  const I32 inverse = SetInt(kInverseOf9);
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    I32 upper[4], lower[4];
    TransformOutput(half[2 * i], upper);
    TransformOutput(half[2 * i + 1], lower);
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const I32 top = Max(Max(Mul(upper[2 * j], inverse), Mul(upper[2 * j + 1], inverse)),
                          Max(Mul(lower[2 * j], inverse), Mul(lower[2 * j + 1], inverse)));
      pooled[2 * i + j] = Max(Add(ShiftRight<6>(top), bias), SetInt(0));
    }
  }
}

// Adds blocks of a branch to the sums over branches: (pooled pixels, channels).
template <int kBlocksHere>
static void AddPooled(const DeepInt8Plan& plan, const Strip& s, const int32_t* product, const int32_t* bias, bool first,
                      int32_t* sums) {
  constexpr int kVectors = kBlocksHere * kBlockVectors;
  for (int64_t tile = 0; tile < s.Tiles(); ++tile) {
    const int64_t pixel = (tile / s.columns * 2 * s.columns + tile % s.columns) * 2;
    for (int v = 0; v < kVectors; ++v, product += kWinogradFrequencies * I32::kLanes) {
      I32 pooled[4];
      PoolTile(product, Load(bias + v * I32::kLanes), pooled);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        int32_t* to = sums + (pixel + i / 2 * 2 * s.columns + i % 2) * plan.channels + v * I32::kLanes;
        Store(to, first ? pooled[i] : Add(Load(to), pooled[i]));
      }
    }
  }
}

}  // namespace maam_deep_int8_module
}  // namespace MAAM_ISA
}  // namespace maam
