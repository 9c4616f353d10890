// The emulator's stand-in for CANN's tiling of matrix products, written from the public documentation alone.
#pragma once

#include "kernel_tiling/kernel_tiling.h"
#include "tiling/platform/platform_ascendc.h"

namespace matmul_tiling {

enum class TPosition { GM };
enum class CubeFormat { ND };
enum class DataType { DT_FLOAT, DT_FLOAT16, DT_BF16 };

class MatmulApiTiling {
 public:
  explicit MatmulApiTiling(const platform_ascendc::PlatformAscendC&) {}
  int32_t SetAType(TPosition, CubeFormat, DataType type) { return a_ = type, 0; }
  int32_t SetBType(TPosition, CubeFormat, DataType type) { return b_ = type, 0; }
  int32_t SetCType(TPosition, CubeFormat, DataType type) { return c_ = type, 0; }
  int32_t SetShape(int32_t m, int32_t n, int32_t k) {
    tiling_.singleCoreM = m;
    tiling_.singleCoreN = n;
    tiling_.singleCoreK = k;
    return 0;
  }
  int32_t SetOrgShape(int32_t m, int32_t n, int32_t k) {
    fits_ = m >= tiling_.singleCoreM && n >= tiling_.singleCoreN && k >= tiling_.singleCoreK;
    return 0;
  }
  int32_t SetBias(bool bias) { return bias ? -1 : 0; }
  int32_t SetBufferSpace(int32_t, int32_t, int32_t) { return 0; }
  int64_t GetTiling(AscendC::tiling::TCubeTiling& tiling) {
    if (!fits_ || a_ != b_ || c_ != DataType::DT_FLOAT) return -1;
    tiling = tiling_;
    tiling.element_type = static_cast<int32_t>(a_);
    return 0;
  }

 private:
  AscendC::tiling::TCubeTiling tiling_;
  DataType a_ = DataType::DT_FLOAT;
  DataType b_ = DataType::DT_FLOAT;
  DataType c_ = DataType::DT_FLOAT;
  bool fits_ = false;
};

}  // namespace matmul_tiling
