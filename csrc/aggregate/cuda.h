// What other CUDA operators take from the aggregate.
#pragma once

#include "aggregate/aggregate.h"

namespace maam::cuda {

// d alpha from the dot products <dG, A_k> over parts: partial[part * kMaxBranches + k], added in the order of the
// parts.
void WriteAlphaGradient(const char* op, void* stream, DType dtype, const void* alpha, int branches,
                        const double* partial, int64_t parts, void* dalpha);

}  // namespace maam::cuda
