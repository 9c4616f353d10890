// What a variant of the dense kernels implements. The inputs are cut into segments, each a task of its own: a layer
// with few outputs has work for all threads too. What the segments add to y is summed up in their order.
#pragma once

#include "core/scratch.h"
#include "dense/dense.h"

namespace maam {

// Inputs of a segment: part of the result's bits.
constexpr int64_t kSegment = 4096;

// With many rows of x they are the lanes: so many of them, transposed, stay in the L2 cache while W passes by.
constexpr int64_t kChunk = 64;
// Inputs at a time, and rows of W that are copied before they meet these rows of x: few enough for the copy to stay in
// the L1 cache. Copied rows are apart by what is not a power of two.
constexpr int64_t kDepth = 128;
constexpr int64_t kOutputsAtOnce = 24;
constexpr int64_t kPackedStride = kDepth + 16;
constexpr int64_t kManyRowsFloats = kChunk * kDepth + (kChunk + kOutputsAtOnce) * kPackedStride;

// Up to so many rows of x, each row of W is read once, in one go and in place, and inputs are the lanes.
constexpr int64_t kFewRows = 4;
constexpr int64_t kFewRowsFloats = kFewRows * kSegment;

inline int64_t DenseWorkerFloats(const DenseForward& p) {
  return p.batch <= kFewRows ? kFewRowsFloats : kManyRowsFloats;
}

// What a segment adds to y stands in working memory as (outputs, columns): rows of x are columns, whole vectors of them
// if they are many.
inline int64_t PartialColumns(const DenseForward& p) { return p.batch <= kFewRows ? p.batch : RoundUp(p.batch, 16); }

// Inputs [k, k + depth), depth <= kSegment, and outputs [begin, end).
struct DenseSegment {
  int64_t k, depth, begin, end;
};

// Rows [begin, end) of partial, (outputs, PartialColumns): W x^T over the segment.
using DenseSegmentKernel = void(const DenseForward& p, const DenseSegment& segment, float* partial, float* memory);

// Columns [begin, end) of y, that is outputs, from the partial results of all segments.
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

// Part of B in working memory at a time, twice: one piece is multiplied while the next is copied.
constexpr int64_t kPanel = 48;
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
