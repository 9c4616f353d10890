// The k x k convolution before a 3 x 3 one: from an image's pixels to the map that the latter takes, channels last.
// Compiled for each instruction set, see core/simd.h.
#pragma once

#include "core/panel-inl.h"
#include "core/tile-inl.h"
#include "winograd/strip-inl.h"

namespace maam {
namespace MAAM_ISA {

// The pixels that the strip's taps reach, zeros around the image.
template <class T>
static void StagePatch(const Strips& t, const Strip& s, const T* images, float* patch) {
  const int64_t left = 4 * s.left - 1 - t.border;
  const int64_t begin = left < 0 ? -left : 0;
  const int64_t end = t.width - left < t.PatchStride() ? t.width - left : t.PatchStride();
  for (int64_t i = 0; i < t.inputs * t.PatchRows(); ++i) {
    const int64_t y = 4 * s.top - 1 - t.border + i % t.PatchRows();
    float* row = patch + i * t.PatchStride();
    if (y < 0 || y >= t.height) {
      for (int64_t x = 0; x < t.PatchStride(); ++x) row[x] = 0;
      continue;
    }
    const T* from = images + ((s.image * t.inputs + i / t.PatchRows()) * t.height + y) * t.width + left + begin;
    for (int64_t x = 0; x < begin; ++x) row[x] = 0;
    ForVectors<F32>(end - begin, [&](int64_t x, int64_t n) { StoreUpTo(row + begin + x, LoadUpTo(from + x, n), n); });
    for (int64_t x = end; x < t.PatchStride(); ++x) row[x] = 0;
  }
}

// One row of one panel of the first convolution in columns [begin, end) of the map; kRelu: with shift and ReLU.
template <bool kRelu>
static void FirstRow(const FirstPanels& conv, int64_t panel, const float* patch, int64_t begin, int64_t end,
                     float* const (&row)[kPanelVectors]) {
  const float* weight = conv.weight + panel * conv.taps * kPanelColumns;
  const float* shift = conv.shift + panel * kPanelColumns;
  const auto offset = [&conv](int64_t tap) { return conv.offset[tap]; };
  for (int64_t c = begin; c < end; c += kPanelRows) {
    // The last block overlaps the one before it, or in a short row reaches behind it.
    const int64_t at = c + kPanelRows <= end || end - kPanelRows < begin ? c : end - kPanelRows;
    F32 sum[kPanelRows][kPanelVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = kRelu ? Load(shift + v * F32::kLanes) : Set(0.0f);
    }
    PanelProduct<false>(patch + at, 1, offset, conv.taps, weight, sum);
#pragma GCC unroll 8
    for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) {
        Store(row[v] + (at + r) * F32::kLanes, kRelu ? Relu(sum[r][v]) : sum[r][v]);
      }
    }
  }
}

// The map: (vectors of channels, rows, columns, lanes). Pixels outside the image are zeros, the second convolution's
// padding.
template <bool kRelu>
static void FirstConvolution(const Strips& t, const Strip& s, const FirstPanels& conv, const float* patch, float* map) {
  const int64_t columns = 4 * s.columns + 2;
  const int64_t before = 4 * s.left - 1;
  const int64_t begin = before < 0 ? -before : 0;
  const int64_t end = t.width - before < columns ? t.width - before : columns;
  for (int64_t panel = 0; panel < t.middle / kPanelColumns; ++panel) {
    for (int64_t r = 0; r < 4 * s.rows + 2; ++r) {
      float* row[kPanelVectors];
      for (int v = 0; v < kPanelVectors; ++v) {
        row[v] = map + ((panel * kPanelVectors + v) * t.MapRows() + r) * t.MapStride() * F32::kLanes;
      }
      const int64_t y = 4 * s.top - 1 + r;
      const bool inside = y >= 0 && y < t.height;
      if (inside) FirstRow<kRelu>(conv, panel, patch + r * t.PatchStride(), begin, end, row);
      for (int v = 0; v < kPanelVectors; ++v) {
        ZeroCells(row[v], inside ? begin : columns);
        if (inside) ZeroCells(row[v] + end * F32::kLanes, columns - end);
      }
    }
  }
}

// One vector of outputs of another convolution, weights (outputs, depth) times scale, in panels (depth, outputs).
// `weight` begins at output `first`.
static void PackPlain(const float* weight, int64_t depth, int64_t outputs, int64_t first, const float* scale,
                      float* panels) {
  PackVector(weight, outputs - first, depth, scale,
             panels + first / kPanelColumns * depth * kPanelColumns + first % kPanelColumns, kPanelColumns);
}

}  // namespace MAAM_ISA
}  // namespace maam
