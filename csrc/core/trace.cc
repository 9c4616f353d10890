#include "core/trace.h"

#include <pthread.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "core/error.h"

namespace maam {
namespace {

bool Flag(const char* variable) {
  const char* text = std::getenv(variable);
  return text != nullptr && *text != '\0' && std::string(text) != "0";
}

// Read once: getenv beside a setenv of another thread is a race.
bool Verbose() {
  static const bool on = Flag("MAAM_OPS_VERBOSE");
  return on;
}

struct CounterTable {
  std::mutex mutex;
  std::map<std::string, KernelCounters> by_kernel;
};

// Leaked: kernels may run while statics are destroyed. A forked child, in which another thread's lock would never be
// released, gets a table of its own.
CounterTable& Table() {
  static std::atomic<CounterTable*> table{[] {
    pthread_atfork(nullptr, nullptr, [] { table.store(new CounterTable); });
    return new CounterTable;
  }()};
  return *table.load();
}

template <class T>
bool AllFinite(const T* data, int64_t size) {
  for (int64_t i = 0; i < size; ++i) {
    if (!std::isfinite(ToFloat(data[i]))) return false;
  }
  return true;
}

}  // namespace

Trace::Trace(const char* op, Isa isa, const Tensor& shape_of, int64_t bytes_moved, int64_t scratch_bytes)
    : name_(std::string(op) + "/" + Name(isa)), op_(op), isa_(isa), tensor_(shape_of) {
  {
    CounterTable& table = Table();
    std::lock_guard<std::mutex> lock(table.mutex);
    KernelCounters& counters = table.by_kernel[name_];
    ++counters.calls;
    counters.bytes_moved += bytes_moved;
    if (scratch_bytes > counters.scratch_bytes) counters.scratch_bytes = scratch_bytes;
  }
  start_ = std::chrono::steady_clock::now();
}

Trace::~Trace() {
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start_;
  {
    CounterTable& table = Table();
    std::lock_guard<std::mutex> lock(table.mutex);
    table.by_kernel[name_].seconds += took.count();
  }
  if (!Verbose()) return;
  std::fprintf(stderr, "maam_ops,%s,native:%s,%s,%s,%.4f ms\n", op_, Name(isa_), tensor_.ShapeText().c_str(),
               Name(tensor_.dtype), 1e3 * took.count());
}

void CheckFinite(const char* op, const char* result, const Tensor& tensor) {
  static const bool on = Flag("MAAM_OPS_CHECK_FINITE");
  if (!on) return;
  bool finite = true;
  std::vector<char> copy;
  const void* data = HostData(tensor, &copy);
  WithType(tensor.dtype, [&](auto* type) {
    finite = AllFinite(static_cast<const std::remove_pointer_t<decltype(type)>*>(data), tensor.Size());
  });
  if (!finite) Fail(op, result, "NaN or infinity", "finite values (MAAM_OPS_CHECK_FINITE is set)");
}

std::map<std::string, KernelCounters> Counters() {
  CounterTable& table = Table();
  std::lock_guard<std::mutex> lock(table.mutex);
  return table.by_kernel;
}

void ResetCounters() {
  CounterTable& table = Table();
  std::lock_guard<std::mutex> lock(table.mutex);
  table.by_kernel.clear();
}

}  // namespace maam
