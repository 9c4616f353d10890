// What a variant of the dense kernels implements. The inputs are cut into segments, each a task of its own: a layer
// with few outputs has work for all threads too. What the segments add to y is summed up in their order.
#pragma once

#include "core/scratch.h"
#include "dense/dense.h"

namespace maam {

// Inputs of a segment, and those that a dot product runs over at a time. Both are part of the result's bits.
constexpr int64_t kSegment = 4096;
constexpr int64_t kDepth = 1024;
// Rows of x, kDepth inputs of each, that stay in the L2 cache while W passes by.
constexpr int64_t kChunk = 64;

// Outputs in registers at a time. Rows of partial results are padded to two of them: a number of outputs known
// beforehand is added in one go, where a variable one took a quarter of the time of its dot products.
constexpr int64_t kOutputs = 4;
inline int64_t PartialStride(const DenseForward& p) { return RoundUp(p.outputs, 2 * kOutputs); }

// A worker's copies of a chunk of x and of a few rows of W, the rows apart by what is not a power of two. Up to three
// rows of x are copied over a whole segment.
constexpr int64_t kPackedStride = kDepth + 16;
constexpr int64_t kPackedFloats = (kChunk + kOutputs) * kPackedStride;
static_assert(3 * kSegment <= kPackedFloats);

// Inputs [k, k + depth), depth <= kSegment, and outputs [begin, end).
struct DenseSegment {
  int64_t k, depth, begin, end;
};

// partial (batch, PartialStride), columns [begin, end): x W^T over the segment. begin is a multiple of 2 kOutputs.
// That for AVX512-BF16 takes bfloat16 by bfloat16 alone.
using DenseSegmentKernel = void(const DenseForward& p, const DenseSegment& segment, float* partial, void* memory);

// Rows [begin, end) of y from the partial results of all segments.
using DenseFinishKernel = void(const DenseForward& p, const float* partial, int64_t begin, int64_t end);

// C = A B in float32, A (rows, depth) with rows a_stride apart, B (depth, columns), C (rows, columns). Every element of
// C is summed over depth in its order, kPanelDepth terms at a time, whatever the columns of a task.
struct DenseProduct {
  int64_t rows = 0;
  int64_t depth = 0;
  int64_t columns = 0;
  const float* a = nullptr;
  int64_t a_stride = 0;
  DType b_dtype = DType::kFloat32;
  DType c_dtype = DType::kFloat32;  // of a half type only where depth <= kPanelDepth
  const void* b = nullptr;
  void* c = nullptr;
  bool stream = false;  // past the cache: tasks then begin where rows of C are aligned
};

// Part of B in working memory at a time, twice: one piece is multiplied while the next is copied. Four times the
// columns that are in registers at a time: each row of B is in a page of its own, and 192 bytes of it at a time took
// half as long again as 768.
constexpr int64_t kPanelColumns = 48;
constexpr int64_t kPanel = 4 * kPanelColumns;
constexpr int64_t kPanelDepth = 256;
constexpr int64_t kPanelFloats = kPanel * kPanelDepth;

// Columns [begin, end) of C.
using DenseProductKernel = void(const DenseProduct& p, int64_t begin, int64_t end, float* panels);

namespace dense_kernels {
using dense_segment = DenseSegmentKernel;
using dense_finish = DenseFinishKernel;
using dense_product = DenseProductKernel;
}  // namespace dense_kernels

#define MAAM_KERNEL(kernel, isa) dense_kernels::kernel kernel##_##isa;
#include "dense/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
