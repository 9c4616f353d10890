// What a variant of the cross-entropy kernel implements.
#pragma once

#include "cross_entropy/cross_entropy.h"

namespace maam {

// Room for a row in the compute type, whole vectors of any instruction set.
constexpr int64_t kRowPadding = 16;

// Rows [begin, end): the gradient, times `scale`, and what each row adds to the loss. `row` has room for a row of
// floats rounded up to kRowPadding.
using CrossEntropyKernel = void(const CrossEntropy& p, int64_t begin, int64_t end, double scale, float* row,
                                double* losses);

namespace cross_entropy_kernels {
using cross_entropy = CrossEntropyKernel;
}  // namespace cross_entropy_kernels

#define MAAM_KERNEL(kernel, isa) cross_entropy_kernels::kernel kernel##_##isa;
#include "cross_entropy/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
