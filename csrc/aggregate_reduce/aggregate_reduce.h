// Branches to F in one operator: Eq. 9 (aggregate/aggregate.h) and Eq. 3 (reduce/reduce.h) of the MAAM paper,
//
//     G = sum_i softmax(alpha)_i A_i,   F = ReLU(BN(W G)),
//
// with G formed tile by tile in the cache, by the kernels of reduce, and never stored. The backward forms it again:
//
//     dA_i = w_i dG,   d alpha_i = w_i (<dG, A_i> - sum_j w_j <dG, A_j>),   w = softmax(alpha)
//
// all from the sweep that gives dW, with dG in the compute type and never rounded to the data's.
#pragma once

#include "reduce/reduce.h"

namespace maam {

// Sets p->mix to softmax(alpha); alpha holds p->branches elements of ParameterDType(p->dtype).
void MixBranches(const void* alpha, ReduceOperands* p);

// RunReduceBackward, and d alpha from its dots.
void RunAggregateReduceBackward(ReduceBackward* p, void* dalpha);

}  // namespace maam
