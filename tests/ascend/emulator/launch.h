// What test harnesses share: from operands to tiling data as CANN's host does it, and a launch with its report.
#pragma once

#include <cstdio>

#include "emulator/device.h"
#include "register/op_def_registry.h"

// Which planted fault is active; the product's kernels know nothing of it.
int planted_fault = -1;

namespace emulator {

constexpr int kMaxCores = 64;

// Filled for Python through ctypes.
struct Report {
  uint64_t cores;
  uint64_t ub_bytes;
  uint64_t gm_read[kMaxCores];
  uint64_t gm_written[kMaxCores];
  char error[512];
};

// The operands of a DYNAMIC input or output as a kernel receives them: see ListTensorDesc.
inline std::vector<uint64_t> TensorList(void* const* tensors, int count) {
  std::vector<uint64_t> words{sizeof(uint64_t)};
  for (int i = 0; i < count; ++i) words.push_back(reinterpret_cast<uint64_t>(tensors[i]));
  return words;
}

// Runs the operator's tiling function; throws Fault if it refuses the operands.
inline gert::TilingContext Tile(const std::string& op, const gert::Operands& operands, fe::PlatFormInfos* platform) {
  gert::TilingContext context(operands, platform);
  if (ops::Registry().at(op).ai_core.tiling(&context) != ge::GRAPH_SUCCESS) {
    throw Fault(op + ": tiling refuses the operands");
  }
  return context;
}

// Runs `body`, whose Fault becomes the report's error, and collects the statistics of the device it used.
template <class F>
int Run(Device& device, Report* report, F&& body) {
  report->error[0] = '\0';
  int status = 0;
  try {
    body();
  } catch (const Fault& fault) {
    std::snprintf(report->error, sizeof report->error, "%s", fault.what());
    status = 1;
  }
  report->cores = device.Cores();
  report->ub_bytes = 0;
  for (int c = 0; c < device.Cores(); ++c) {
    const Statistics& statistics = device.At(c).statistics;
    report->ub_bytes = std::max(report->ub_bytes, statistics.ub_bytes);
    report->gm_read[c] = statistics.gm_read;
    report->gm_written[c] = statistics.gm_written;
  }
  return status;
}

}  // namespace emulator
