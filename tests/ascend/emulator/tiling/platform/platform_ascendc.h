// The emulator's stand-in for CANN's description of the device, written from the public documentation alone.
#pragma once

#include "emulator/core.h"
#include "register/op_def_registry.h"

namespace platform_ascendc {

enum class CoreMemType { L0_A, L0_B, L0_C, L1, L2, UB, HBM };

class PlatformAscendC {
 public:
  explicit PlatformAscendC(fe::PlatFormInfos* info) : info_(info) {}
  uint32_t GetCoreNumAiv() const { return info_->vector_cores; }
  uint32_t GetCoreNumAic() const { return info_->cube_cores; }
  uint32_t GetLibApiWorkSpaceSize() const { return emulator::kSystemWorkspace; }
  void GetCoreMemSize(const CoreMemType& type, uint64_t& bytes) const {
    if (type != CoreMemType::UB) throw std::logic_error("only the Unified Buffer is emulated");
    bytes = info_->ub_bytes;
  }

 private:
  fe::PlatFormInfos* info_;
};

}  // namespace platform_ascendc
