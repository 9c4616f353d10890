// The steps by which a strip goes through a 3 x 3 convolution by F(4x4, 3x3), channels last, so that channels are
// lanes. Compiled for each instruction set, see core/simd.h.
#pragma once

#include "core/panel-inl.h"
#include "core/simd.h"
#include "winograd/strips.h"
#include "winograd/transforms-inl.h"

namespace maam {
namespace MAAM_ISA {

MAAM_INLINE void ZeroCells(float* cells, int64_t count) {
  for (int64_t i = 0; i < count; ++i) Store(cells + i * F32::kLanes, Set(0.0f));
}

// B^T d B of all tiles of a strip, from a map of `channels` channels and this geometry, the pixel above and to the left
// of the strip first: (frequencies, tiles, channels). Columns are transformed once for both tiles that share them, into
// `half`.
static void TransformInput(const Strips& t, const Strip& s, const float* map, int64_t map_rows, int64_t map_stride,
                           int64_t channels, float* half, float* input) {
  const int64_t columns = 4 * s.columns + 2;
  for (int64_t vector = 0; vector < channels / F32::kLanes; ++vector) {
    for (int64_t row = 0; row < s.rows; ++row) {
      const float* from = map + (vector * map_rows + 4 * row) * map_stride * F32::kLanes;
      for (int64_t c = 0; c < columns; ++c) {
        F32 d[6], v[6];
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) d[i] = Load(from + (i * map_stride + c) * F32::kLanes);
        WinogradInput(d, v);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) Store(half + (i * columns + c) * F32::kLanes, v[i]);
      }
      for (int64_t tile = 0; tile < s.columns; ++tile) {
        float* to = input + (row * s.columns + tile) * channels + vector * F32::kLanes;
        for (int i = 0; i < 6; ++i) {
          F32 d[6], v[6];
#pragma GCC unroll 6
          for (int j = 0; j < 6; ++j) d[j] = Load(half + (i * columns + 4 * tile + j) * F32::kLanes);
          WinogradInput(d, v);
#pragma GCC unroll 6
          for (int j = 0; j < 6; ++j, to += t.FrequencyStride(channels)) Store(to, v[j]);
        }
      }
    }
  }
}

// Rows that pad `count` ones to whole blocks: computed and dropped, they must not hold what slows arithmetic down.
static void ZeroRows(float* rows, int64_t stride, int64_t count) {
  for (int64_t r = count; r % kPanelRows != 0; ++r) {
    for (int64_t i = 0; i < stride; ++i) rows[r * stride + i] = 0;
  }
}

// The matrix products of one panel of weights for all frequencies: (tiles, vectors, frequencies, lanes). `depth` of the
// transformed input's channels exist.
static void MultiplyPanel(const Strips& t, int64_t tiles, float* input, int64_t channels, int64_t depth,
                          const float* weight, float* product) {
  const auto offset = [](int64_t k) { return k; };
  for (int64_t f = 0; f < kFrequencies; ++f, weight += depth * kPanelColumns, input += t.FrequencyStride(channels)) {
    ZeroRows(input, channels, tiles);
    ForRowBlocks(tiles, [&](auto block, int64_t tile) {
      constexpr int kRows = decltype(block)::kRows;
      F32 sum[kRows][kPanelVectors];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = Set(0.0f);
      }
      const float* rows = input + tile * channels;
      const float* next = rows + t.FrequencyStride(channels);  // too short a stretch for the hardware to foresee
      if (tile == 0) {
        PanelProduct<true>(rows, channels, offset, depth, weight, sum, next);
      } else {
        PanelProduct<false>(rows, channels, offset, depth, weight, sum, next);
      }
      float* to = product + (tile * kPanelVectors * kFrequencies + f) * F32::kLanes;
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kPanelVectors; ++v, to += kFrequencies * F32::kLanes) Store(to, sum[r][v]);
      }
    });
  }
}

// A^T m A of one vector of channels of one tile.
MAAM_INLINE void TransformOutput(const float* m, F32 (&y)[4][4]) {
  F32 half[4][6];
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    F32 column[6], z[4];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) column[i] = Load(m + (i * 6 + j) * F32::kLanes);
    WinogradOutput(column, z);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) half[i][j] = z[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) WinogradOutput(half[i], y[i]);
}

// One vector of outputs of a 3 x 3 convolution, weights (outputs, inputs, 3, 3) times scale: G g G^T in its place in a
// panel (frequencies, inputs, outputs). `weight` begins at output `first`; `plain` is working memory of 9 * inputs
// vectors.
static void PackWinograd(const float* weight, int64_t inputs, int64_t outputs, int64_t first, const float* scale,
                         float* plain, float* panel) {
  PackVector(weight, outputs - first, 9 * inputs, scale, plain, F32::kLanes);
  for (int64_t i = 0; i < inputs; ++i) {
    F32 t[3][6];
#pragma GCC unroll 3
    for (int x = 0; x < 3; ++x) {
      F32 g[3];
#pragma GCC unroll 3
      for (int y = 0; y < 3; ++y) g[y] = Load(plain + (i * 9 + y * 3 + x) * F32::kLanes);
      WinogradWeight(g, t[x]);
    }
    float* at = panel + i * kPanelColumns + first % kPanelColumns;
#pragma GCC unroll 6
    for (int y = 0; y < 6; ++y) {
      const F32 g[3] = {t[0][y], t[1][y], t[2][y]};
      F32 u[6];
      WinogradWeight(g, u);
#pragma GCC unroll 6
      for (int x = 0; x < 6; ++x, at += inputs * kPanelColumns) Store(at, u[x]);
    }
  }
}

// Where the panel of a vector of outputs begins.
MAAM_INLINE float* WinogradPanel(float* panels, int64_t inputs, int64_t first) {
  return panels + first / kPanelColumns * kFrequencies * inputs * kPanelColumns;
}

}  // namespace MAAM_ISA
}  // namespace maam
