// The emulator's stand-in for the tiling data of the matrix product: what its checks need.
#pragma once

#include <cstdint>

namespace AscendC {
namespace tiling {

struct TCubeTiling {
  int32_t singleCoreM = 0;
  int32_t singleCoreN = 0;
  int32_t singleCoreK = 0;
  int32_t element_type = 0;  // matmul_tiling::DataType; not part of CANN
};

}  // namespace tiling
}  // namespace AscendC
