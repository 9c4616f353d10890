// The emulator's stand-in for the Ascend C header of this name: kernels are compiled against it unchanged.
// Written from the public documentation alone; it covers what the kernels of this repository use, nothing more.
#pragma once

#include "emulator/vector.h"

#define __aicore__
#define __global__
#define __gm__
#define GM_ADDR uint8_t*
#define KERNEL_TASK_TYPE_DEFAULT(type)
#define REGISTER_TILING_DEFAULT(type)
#define GET_TILING_DATA_WITH_STRUCT(type, name, address) \
  type name;                                             \
  std::memcpy(&name, address, sizeof name)

namespace AscendC {

// A list of tensors as a kernel sees it: an offset to the addresses, shapes (unused here) and the addresses.
class ListTensorDesc {
 public:
  explicit ListTensorDesc(void* data) : words_(static_cast<uint64_t*>(data)) {}
  template <class T>
  T* GetDataPtr(uint32_t index) const {
    return reinterpret_cast<T*>(words_[words_[0] / sizeof(uint64_t) + index]);
  }

 private:
  uint64_t* words_;
};

inline GM_ADDR GetUserWorkspace(GM_ADDR workspace) { return workspace + emulator::kSystemWorkspace; }

}  // namespace AscendC
