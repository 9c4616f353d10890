// Products of rows with panels of weights: a panel holds, for each step of the depth, the weights of kPanelColumns
// outputs side by side, so that outputs are lanes and rows are broadcast. For results that are wanted with channels
// last; see core/gemm-inl.h for pixels last. Compiled for each instruction set, see core/simd.h.
#pragma once

#include "core/gemm-inl.h"
#include "core/simd.h"

namespace maam {
namespace MAAM_ISA {

constexpr int kPanelVectors = 2;
constexpr int kPanelColumns = kPanelVectors * F32::kLanes;
// Rows in registers at a time: enough independent sums to hide the latency of the multiply-add. Where 4 rows just do
// so, 6 take a sixth less time, but few numbers of rows are multiples of 6.
constexpr int kPanelRows = kRegisters == 32 ? 8 : 4;
constexpr int kManyRows = kRegisters == 16 && F32::kLanes == 8 ? 6 : kPanelRows;

template <int kCount>
struct RowBlock {
  static constexpr int kRows = kCount;
};

// f(block, first row) for blocks that hold `rows` rows, none of them more than kPanelRows - 1 rows behind the last.
template <class F>
MAAM_INLINE void ForRowBlocks(int64_t rows, F&& f) {
  int64_t row = 0;
  if constexpr (kManyRows > kPanelRows) {
    for (int64_t left = rows; left > 2 * kPanelRows || (left > kPanelRows && left <= kManyRows); left -= kManyRows) {
      f(RowBlock<kManyRows>(), row);
      row += kManyRows;
    }
  }
  for (; row < rows; row += kPanelRows) f(RowBlock<kPanelRows>(), row);
}

// sum[r] += sum_k x[r * row_stride + offset(k)] panel[k]. kAhead: brings the panel that follows this one in memory into
// the L1 cache meanwhile; and so, if given, the kRows * depth numbers of next_rows.
template <bool kAhead, int kRows, class Offset>
MAAM_INLINE void PanelProduct(const float* x, int64_t row_stride, Offset&& offset, int64_t depth, const float* panel,
                              F32 (&sum)[kRows][kPanelVectors], const float* next_rows = nullptr) {
  const float* ahead = panel + depth * kPanelColumns;
  for (int64_t k = 0; k < depth; ++k, panel += kPanelColumns) {
    if constexpr (kAhead) {
#pragma GCC unroll 2
      for (int i = 0; i < kPanelColumns; i += 16) __builtin_prefetch(ahead + k * kPanelColumns + i, 0, 3);
    }
    if (next_rows != nullptr) __builtin_prefetch(next_rows + k * kRows, 0, 3);
    F32 weight[kPanelVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kPanelVectors; ++v) weight[v] = Load(panel + v * F32::kLanes);
    const float* at = x + offset(k);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F32 value = Set(at[r * row_stride]);
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = Fma(value, weight[v], sum[r][v]);
    }
  }
}

// One vector of a panel: to[k * to_stride + lane] = scale[lane] * from[lane * depth + k] for the first `outputs` lanes,
// 0 for the others.
MAAM_INLINE void PackVector(const float* from, int64_t outputs, int64_t depth, const float* scale, float* to,
                            int64_t to_stride) {
  const F32 factor = Load(scale);
  int64_t k = 0;
  if (outputs >= F32::kLanes) {
    for (; k + F32::kLanes <= depth; k += F32::kLanes) {
      TransposeSquare<F32>(from + k, depth, to + k * to_stride, to_stride);
      for (int i = 0; i < F32::kLanes; ++i)
        Store(to + (k + i) * to_stride, Mul(Load(to + (k + i) * to_stride), factor));
    }
  }
  for (; k < depth; ++k) {
    for (int64_t lane = 0; lane < F32::kLanes; ++lane) {
      to[k * to_stride + lane] = lane < outputs ? from[lane * depth + k] * scale[lane] : 0;
    }
  }
}

}  // namespace MAAM_ISA
}  // namespace maam
