// How the aggregate is split: filled in by op_host, read by the kernels. Plain data, copied to the device as bytes.
#pragma once

#include <cstdint>

constexpr uint32_t kAggregateMaxBranches = 8;

// Core c takes units_per_core units of `unit` elements, one more if c < extra_units, in order; the last unit may be
// short. A core moves `tile` elements at a time, a multiple of `unit`.
struct AgentAggregateTiling {
  uint64_t size;
  uint64_t units_per_core;
  uint32_t extra_units;
  uint32_t unit;
  uint32_t tile;
  uint32_t branches;
  uint32_t cores;
};
