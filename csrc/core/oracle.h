// What the oracles, each operator's reference.cc, share.
#pragma once

#include <cmath>

#include "core/dtype.h"

namespace maam {

static inline double ElementAt(DType dtype, const void* data, int64_t i) {
  double value = 0;
  WithType(dtype, [&]<class T>(T*) { value = static_cast<double>(ToFloat(static_cast<const T*>(data)[i])); });
  return value;
}

// Distance from 1 to the next number of the type.
static inline double Epsilon(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return std::ldexp(1.0, -10);
    case DType::kBFloat16:
      return std::ldexp(1.0, -7);
    case DType::kFloat64:
      return std::ldexp(1.0, -52);
    default:
      return std::ldexp(1.0, -23);
  }
}

}  // namespace maam
