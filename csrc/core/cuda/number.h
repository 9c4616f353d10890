// Element types on the device: stored as in core/dtype.h, computed in float32, or float64 for float64 data.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "core/dtype.h"

#define MAAM_DEVICE __device__ __forceinline__

namespace maam::cuda {

template <class T>
struct WideOf {
  using Type = float;
};
template <>
struct WideOf<double> {
  using Type = double;
};
template <class T>
using Wide = typename WideOf<T>::Type;

MAAM_DEVICE float Widen(float x) { return x; }
MAAM_DEVICE double Widen(double x) { return x; }
MAAM_DEVICE float Widen(Half x) { return __half2float(__ushort_as_half(x.bits)); }
MAAM_DEVICE float Widen(BFloat16 x) { return __bfloat162float(__ushort_as_bfloat16(x.bits)); }

// Rounds to nearest even.
MAAM_DEVICE void Narrow(float x, float& out) { out = x; }
MAAM_DEVICE void Narrow(double x, double& out) { out = x; }
MAAM_DEVICE void Narrow(double x, float& out) { out = static_cast<float>(x); }
MAAM_DEVICE void Narrow(float x, Half& out) { out.bits = __half_as_ushort(__float2half_rn(x)); }
MAAM_DEVICE void Narrow(float x, BFloat16& out) { out.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x)); }

template <class T>
MAAM_DEVICE T Rounded(Wide<T> x) {
  T out;
  Narrow(x, out);
  return out;
}

}  // namespace maam::cuda
