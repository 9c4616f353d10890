// What the user can see of a running kernel: MAAM_OPS_VERBOSE=1 prints a line for each, MAAM_OPS_CHECK_FINITE=1 looks
// for NaN and infinity in its results, and counters tell tests and benchmarks which variant ran and what it moved.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/isa.h"
#include "core/tensor.h"

namespace maam {

struct KernelCounters {
  int64_t calls = 0;
  double seconds = 0;         // wall time of all finished calls
  int64_t bytes_moved = 0;    // operands read once and results written once
  int64_t scratch_bytes = 0;  // largest working memory of one call
};

// One executed kernel, from construction to destruction.
class Trace {
 public:
  Trace(const char* op, Isa isa, const Tensor& shape_of, int64_t bytes_moved, int64_t scratch_bytes = 0);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

 private:
  const std::string name_;
  const char* op_;
  Isa isa_;
  const Tensor& tensor_;
  std::chrono::steady_clock::time_point start_;
};

// Throws Error if MAAM_OPS_CHECK_FINITE is set and the tensor holds a NaN or an infinity.
void CheckFinite(const char* op, const char* result, const Tensor& tensor);

// Where the host can read a tensor: in place, or `copy` if it lies in the memory of a device.
const void* HostData(const Tensor& tensor, std::vector<char>* copy);

// By "op/isa", for example "aggregate_forward/avx512".
MAAM_PUBLIC std::map<std::string, KernelCounters> Counters();
MAAM_PUBLIC void ResetCounters();

}  // namespace maam
