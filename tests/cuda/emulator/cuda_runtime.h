// The names of CUDA that kernels and drivers use, for a host compiler. Blocks run one after the other, the threads of a
// block as fibers (emulator.h).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "emulator.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

using std::exp;
using std::fma;
using std::sqrt;

#define threadIdx (emulator::ThisThread().thread)
#define blockIdx (emulator::ThisThread().block)
#define gridDim (emulator::ThisThread().grid)

inline void __syncthreads() { emulator::BlockBarrier(); }

// Every lane of the warp must come here, as with a full mask on the device.
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return emulator::Exchange(mask, value, lanes);
}

struct uint4 {
  unsigned x, y, z, w;
};

using cudaError_t = int;
using cudaStream_t = void*;
using cudaMemPool_t = void*;
constexpr cudaError_t cudaSuccess = 0;
