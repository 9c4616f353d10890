// What a variant of the kernels implements. The inputs are cut into segments. Each worker adds all its segments up in
// sums of its own, which are added at the end: of integers the order does not matter.
#pragma once

#include "core/int8.h"
#include "core/scratch.h"
#include "dense_int8/dense_int8.h"

namespace maam {

// Inputs of a segment: a block of their weights stays in the L1 cache while the rows of x pass by.
constexpr int64_t kInt8Segment = 1024;
// Rows of x of a segment that stay in the L2 cache while the weights pass by. Copied, with rows apart by what is not a
// power of two: those would fall into the same few sets of the caches.
constexpr int64_t kInt8Rows = 64;
constexpr int64_t kInt8Stride = kInt8Segment + kCacheLine;

inline int64_t OutputBlocks(const DenseInt8& p) { return (p.outputs + kOutputBlock - 1) / kOutputBlock; }
// Sums of a row, padded to whole blocks.
inline int64_t SumStride(const DenseInt8& p) { return OutputBlocks(p) * kOutputBlock; }

// Inputs [begin, begin + depth), blocks of outputs [first, last).
struct DenseInt8Segment {
  int64_t begin, depth, first, last;
};

// sums (batch, SumStride) += x W^T over the segment.
using DenseInt8SegmentKernel = void(const DenseInt8& p, const DenseInt8Segment& s, uint8_t* packed, int32_t* sums);

// Rows [begin, end) of y from the sums of all workers, which lie one behind the other.
using DenseInt8FinishKernel = void(const DenseInt8& p, const int32_t* sums, int64_t workers, int64_t begin,
                                   int64_t end);

namespace dense_int8_kernels {
using dense_int8 = DenseInt8SegmentKernel;
using dense_int8_finish = DenseInt8FinishKernel;
}  // namespace dense_int8_kernels

#define MAAM_KERNEL(kernel, isa) dense_int8_kernels::kernel kernel##_##isa;
#include "dense_int8/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
