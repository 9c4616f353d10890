// Errors, working memory and the check for NaN of the CUDA library.
#include <array>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "core/cuda/launch.h"
#include "core/error.h"
#include "core/trace.h"

namespace maam {
namespace cuda {
namespace {

// Bytes that the pool keeps between calls, so that a training loop allocates once.
constexpr uint64_t kKeptBytes = uint64_t{64} << 20;
constexpr int kMaxDevices = 64;

// A pool of our own for each device, so that the process's default pool stays as the user set it; null where the device
// has none. Never destroyed: kernels may run while statics are.
cudaMemPool_t PoolOfThisDevice(const char* op) {
  static std::mutex mutex;
  static std::array<cudaMemPool_t, kMaxDevices> pools = {};
  static std::array<bool, kMaxDevices> asked = {};
  int device = 0;
  Check(cudaGetDevice(&device), op);
  if (device >= kMaxDevices) return nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  if (asked[device]) return pools[device];
  int supported = 0;
  Check(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, device), op);
  if (supported != 0) {
    cudaMemPoolProps properties = {};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = device;
    Check(cudaMemPoolCreate(&pools[device], &properties), op);
    uint64_t kept = kKeptBytes;
    Check(cudaMemPoolSetAttribute(pools[device], cudaMemPoolAttrReleaseThreshold, &kept), op);
  }
  asked[device] = true;
  return pools[device];
}

}  // namespace

void Check(cudaError_t status, const char* op) {
  if (status == cudaSuccess) return;
  throw Error(std::string("maam_ops.") + op + ": CUDA: " + cudaGetErrorString(status));
}

Workspace::Workspace(const char* op, void* stream, int64_t bytes) : stream_(static_cast<cudaStream_t>(stream)) {
  if (bytes == 0) return;
  const cudaMemPool_t pool = PoolOfThisDevice(op);
  pooled_ = pool != nullptr;
  void* memory = nullptr;
  Check(pooled_ ? cudaMallocFromPoolAsync(&memory, bytes, pool, stream_) : cudaMalloc(&memory, bytes), op);
  memory_ = static_cast<char*>(memory);
}

// cudaFree waits for the kernels that use the memory. What fails here is reported by the next call.
Workspace::~Workspace() {
  if (memory_ != nullptr) pooled_ ? cudaFreeAsync(memory_, stream_) : cudaFree(memory_);
}

}  // namespace cuda

const void* HostData(const Tensor& tensor, std::vector<char>* copy) {
  constexpr const char* kOp = "CheckFinite";
  copy->resize(tensor.Bytes());
  cuda::Check(cudaDeviceSynchronize(), kOp);
  cuda::Check(cudaMemcpy(copy->data(), tensor.data, copy->size(), cudaMemcpyDeviceToHost), kOp);
  return copy->data();
}

}  // namespace maam
