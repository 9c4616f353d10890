#pragma once

#include "core/dtype.h"

inline maam::BFloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }
inline unsigned short __bfloat16_as_ushort(maam::BFloat16 x) { return x.bits; }
inline float __bfloat162float(maam::BFloat16 x) { return maam::ToFloat(x); }
inline maam::BFloat16 __float2bfloat16_rn(float x) {
  maam::BFloat16 rounded;
  maam::Assign(rounded, x);
  return rounded;
}
