// Softmax-weighted sum of N branches, Eq. 9 of the MAAM paper:
//
//     w = softmax(alpha),   G = sum_i w_i A_i                                            forward
//     dA_i = w_i dG,        d alpha_i = w_i (<dG, A_i> - sum_j w_j <dG, A_j>)            backward, one sweep
//
// Elements are taken in memory order, so any layout will do as long as all branches share it.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/isa.h"

namespace maam {

constexpr int kMinBranches = 2;
constexpr int kMaxBranches = 8;

// Preconditions: kMinBranches <= branches <= kMaxBranches; every a[i] and g holds `size` elements of `dtype`, in
// buffers that do not overlap; alpha holds `branches` elements of ParameterDType(dtype). Pointers need no alignment.
struct AggregateForward {
  DType dtype = DType::kFloat32;
  int branches = 0;
  int64_t size = 0;
  const void* alpha = nullptr;
  const void* a[kMaxBranches] = {};
  void* g = nullptr;
  void* stream = nullptr;  // of the device; unused on CPU
};

// dg and da[i] as a[i]; dalpha as alpha. g is not used: the backward needs no result of the forward.
struct AggregateBackward : AggregateForward {
  const void* dg = nullptr;
  void* da[kMaxBranches] = {};
  void* dalpha = nullptr;
};

// The operator: picks the variant and the threads. Bitwise the same result for any thread count.
void RunAggregateForward(const AggregateForward& p);
void RunAggregateBackward(const AggregateBackward& p);
Isa AggregateForwardIsa();
Isa AggregateBackwardIsa();

// Softmax with the maximum subtracted, in float32 (float64 for float64 data), as the reference computes it.
void SoftmaxWeights(const AggregateForward& p, double* weights);

// d alpha, of a parameter's dtype, from the softmax weights and dots[i] = <dG, A_i>. On CPU; see cuda.h.
void WriteAlphaGradient(DType dtype, int branches, const double* weights, const double* dots, void* dalpha);

// reference.cc: plain loops in double, and for each element of a result the error that a kernel may have. `da` and its
// tolerance hold the branches one after the other.
void AggregateForwardReference(const AggregateForward& p, double* g, double* tolerance);
void AggregateBackwardReference(const AggregateBackward& p, double* dalpha, double* da, double* dalpha_tolerance,
                                double* da_tolerance);

// What a variant implements: elements [begin, end) of the result. `weights` holds `branches` values. With `stream` set,
// results bypass the cache: they are too large to be found there by whoever reads them next.
// Backward also writes dots[i] = <dG, A_i> over the range; begin and end of a range are fixed by the size alone.
using AggregateForwardKernel = void(const AggregateForward& p, const double* weights, int64_t begin, int64_t end,
                                    bool stream);
using AggregateBackwardKernel = void(const AggregateBackward& p, const double* weights, int64_t begin, int64_t end,
                                     bool stream, double* dots);

namespace aggregate_kernels {
using aggregate_forward = AggregateForwardKernel;
using aggregate_backward = AggregateBackwardKernel;
}  // namespace aggregate_kernels

#define MAAM_KERNEL(kernel, isa) aggregate_kernels::kernel kernel##_##isa;
#include "aggregate/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
