#pragma once

#include "core/dtype.h"

inline maam::Half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(maam::Half x) { return x.bits; }
inline float __half2float(maam::Half x) { return maam::ToFloat(x); }
inline maam::Half __float2half_rn(float x) {
  maam::Half half;
  maam::Assign(half, x);
  return half;
}
