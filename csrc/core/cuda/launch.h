// Kernel launches and working memory, on the stream of the caller.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace maam::cuda {

// Throws Error with CUDA's text and the operator's name.
void Check(cudaError_t status, const char* op);

// Working memory in the order of the stream: another call may have it before the host has gone on.
class Workspace {
 public:
  Workspace(const char* op, void* stream, int64_t bytes);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T>
  T* At(int64_t offset) const {
    return reinterpret_cast<T*>(memory_ + offset);
  }

 private:
  cudaStream_t stream_;
  char* memory_ = nullptr;
  bool pooled_ = false;
};

// blocks < 2^31; no block, no launch.
template <class... Parameters, class... Arguments>
void Launch(const char* op, void* stream, int64_t blocks, int threads, void (*kernel)(Parameters...),
            const Arguments&... arguments) {
  if (blocks == 0) return;
  kernel<<<static_cast<unsigned>(blocks), threads, 0, static_cast<cudaStream_t>(stream)>>>(arguments...);
  Check(cudaGetLastError(), op);
}

}  // namespace maam::cuda
