// Sums over the threads of a block, in a fixed order: the same bits in every run.
#pragma once

#include "core/cuda/memory.h"

namespace maam::cuda {

constexpr int kWarp = 32;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

template <class F>
MAAM_DEVICE F WarpSum(F x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, offset);
  return x;
}

// Sums of each of x[0..kCount) over the block, in thread 0; `scratch` holds kCount * kWarps values. A barrier is
// inside.
template <int kCount>
MAAM_DEVICE void BlockSum(double (&x)[kCount], Shared<double> scratch) {
  const int warp = threadIdx.x / kWarp;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    x[k] = WarpSum(x[k]);
    if (threadIdx.x % kWarp == 0) scratch.Set(k * kWarps + warp, x[k]);
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    x[k] = 0;
    for (int i = 0; i < kWarps; ++i) x[k] += scratch.Get(k * kWarps + i);
  }
}

}  // namespace maam::cuda
