// In place of the product's header of this name: launches run at once, working memory is a checked array.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

namespace maam::cuda {

void Check(cudaError_t status, const char* op);

class Workspace {
 public:
  Workspace(const char*, void*, int64_t bytes) : bytes_(bytes + kGuard), memory_(nullptr) {
    if (bytes == 0) return;
    memory_ = static_cast<char*>(std::aligned_alloc(256, (bytes_ + 255) / 256 * 256));
    std::memset(memory_, 0xFF, bytes_);
    emulator::Register("workspace", memory_, bytes, emulator::Kind::kWorkspace);
  }
  ~Workspace() {
    if (memory_ == nullptr) return;
    emulator::Forget(memory_);
    std::free(memory_);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T>
  T* At(int64_t offset) const {
    return reinterpret_cast<T*>(memory_ + offset);
  }

 private:
  static constexpr int64_t kGuard = 256;
  int64_t bytes_;
  char* memory_;
};

template <class... Parameters, class... Arguments>
void Launch(const char* op, void*, int64_t blocks, int threads, void (*kernel)(Parameters...),
            const Arguments&... arguments) {
  emulator::RunGrid(op, blocks, threads, [&] { kernel(arguments...); });
}

}  // namespace maam::cuda
