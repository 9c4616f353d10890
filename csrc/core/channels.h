// Values by channel or by branch, in the type of parameters, for the drivers.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace maam {

inline double ChannelAt(DType dtype, const void* data, int64_t i) {
  return dtype == DType::kFloat64 ? static_cast<const double*>(data)[i] : static_cast<const float*>(data)[i];
}

inline void SetChannel(DType dtype, void* data, int64_t i, double value) {
  if (dtype == DType::kFloat64) {
    static_cast<double*>(data)[i] = value;
  } else {
    static_cast<float*>(data)[i] = static_cast<float>(value);
  }
}

}  // namespace maam
