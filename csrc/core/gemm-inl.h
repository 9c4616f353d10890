// Matrix product of one tile: rows of weights times a panel of columns, both in the compute type. Everything that
// multiplies matrices is built on it. Compiled for each instruction set, see core/simd.h.
#pragma once

#include "core/simd.h"
#include "core/tile.h"

namespace maam {
namespace MAAM_ISA {

// Rows, and vectors of columns, held in registers. A step of the inner loop loads kVectors vectors and broadcasts kRows
// weights for kRows * kVectors multiply-adds, so that the latter are what limits it.
template <class V>
struct Block {
  static constexpr bool kWide = kRegisters == 32;
  static constexpr int kRows = kWide || sizeof(V) == 16 ? 4 : 6;
  static constexpr int kVectors = kWide ? 4 : 2;
  static constexpr int kColumns = kVectors * V::kLanes;
};

// Steps of the inner loop between two calls of emit.Idle().
constexpr int64_t kIdleSteps = 8;

// sum[r][v] = sum_k w[r][k] panel[k][v-th vector], in registers. The loops are unrolled by request: left to the
// optimiser they are, but too late for the sums to stay off the stack at both ends.
template <class V, int kRows, int kVectors, class Emit>
MAAM_INLINE void BlockProduct(const typename V::Element* const (&w)[kRows], int64_t depth,
                              const typename V::Element* panel, int64_t panel_stride, V (&sum)[kRows][kVectors],
                              Emit& emit) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Set(typename V::Element(0));
  }
  for (int64_t k = 0; k < depth;) {
    emit.Idle();
    const int64_t stop = depth - k < kIdleSteps ? depth : k + kIdleSteps;
    for (; k < stop; ++k, panel += panel_stride) {
      V column[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) column[v] = Load(panel + v * V::kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const V weight = Set(w[r][k]);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sum[r][v] = Fma(weight, column[v], sum[r][v]);
      }
    }
  }
}

// kRows rows of the product and kVectors vectors of columns from x on; `rows` of the former exist.
template <class V, int kRows, int kVectors, class Emit>
static void EmitBlock(const typename V::Element* const (&w)[kRows], int64_t depth, const typename V::Element* panel,
                      int64_t panel_stride, int64_t first, int64_t rows, int64_t x, Emit& emit) {
  V sum[kRows][kVectors];
  BlockProduct<V>(w, depth, panel + x, panel_stride, sum, emit);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    if (r < rows) emit.Take(first, r, x, sum[r]);
  }
}

// W P for W of shape (rows, depth) and P of shape (depth, columns), a few rows at a time. For each few,
// emit.Take(first, r, x, vectors) gets columns x... of row first + r in registers, and after all columns
// emit.Done(first, rows) follows; emit.Idle() is called every kIdleSteps steps of the inner loop. `columns` <= kTile is
// a multiple of the vector width. P is read again for every few rows of W: it should fit into the L2 cache.
template <class V, class Emit>
MAAM_INLINE void TileProduct(const typename V::Element* w, int64_t w_stride, int64_t rows, int64_t depth,
                             const typename V::Element* panel, int64_t panel_stride, int64_t columns, Emit& emit) {
  using B = Block<V>;
  for (int64_t first = 0; first < rows; first += B::kRows) {
    const int64_t left = rows - first < B::kRows ? rows - first : B::kRows;
    const typename V::Element* row[B::kRows];
    for (int r = 0; r < B::kRows; ++r) row[r] = w + (first + (r < left ? r : left - 1)) * w_stride;
    int64_t x = 0;
    for (; x + B::kColumns <= columns; x += B::kColumns) {
      EmitBlock<V, B::kRows, B::kVectors>(row, depth, panel, panel_stride, first, left, x, emit);
    }
    for (; x < columns; x += V::kLanes) {
      EmitBlock<V, B::kRows, 1>(row, depth, panel, panel_stride, first, left, x, emit);
    }
    emit.Done(first, left);
  }
}

// How often a TileProduct of kTile columns calls emit.Idle().
template <class V>
MAAM_INLINE int64_t IdlesOf(int64_t rows, int64_t depth) {
  using B = Block<V>;
  return (rows + B::kRows - 1) / B::kRows * (kTile / B::kColumns) * ((depth + kIdleSteps - 1) / kIdleSteps);
}

// out[x][y] = in[y][x] for a square of one vector by one vector: log2(lanes) rounds of zips.
template <class V>
MAAM_INLINE void TransposeSquare(const typename V::Element* in, int64_t in_stride, typename V::Element* out,
                                 int64_t out_stride) {
  constexpr int kLanes = V::kLanes;
  V a[kLanes], b[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) a[i] = Load(in + i * in_stride);
#pragma GCC unroll 4
  for (int step = 1; step < kLanes; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      b[2 * i] = ZipLow(a[i], a[i + kLanes / 2]);
      b[2 * i + 1] = ZipHigh(a[i], a[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) a[i] = b[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) Store(out + i * out_stride, a[i]);
}

}  // namespace MAAM_ISA
}  // namespace maam
