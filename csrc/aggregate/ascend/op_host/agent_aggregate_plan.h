// The choice of the split and of the tile. Plain C++: the host tests run it as the operator build does.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../op_kernel/agent_aggregate_tiling.h"

namespace aggregate {

// Cores start at multiples of this many bytes: whole bursts of global memory, and small enough that from 1 MiB a
// branch on the cores of a 910B differ by less than a tenth.
constexpr uint64_t kUnitBytes = 512;
constexpr uint64_t kRowBytes = 32;

struct Device {
  uint32_t cores;
  uint64_t ub_bytes;
};

// Bytes of Unified Buffer for each element of a tile: queues are double-buffered, and half types bring float32 copies.
inline uint64_t ForwardBytesPerElement(uint64_t element_bytes) {
  const uint64_t queues = 2 * 2 * element_bytes;     // A_i, G
  return queues + (element_bytes == 4 ? 0 : 2 * 4);  // A_i and the sum, widened
}
inline uint64_t BackwardBytesPerElement(uint64_t element_bytes) {
  const uint64_t queues = 3 * 2 * element_bytes;           // dG, A_i, dA_i
  const uint64_t copies = element_bytes == 4 ? 0 : 2 * 4;  // dG and A_i, widened
  return queues + copies;
}

// `fixed_bytes` of the Unified Buffer are taken by what does not grow with the tile, and `scratch` bytes for each 256
// elements by what does so slowly.
inline AgentAggregateTiling Plan(const Device& device, uint64_t size, uint32_t branches, uint64_t element_bytes,
                                 uint64_t bytes_per_element, uint64_t fixed_bytes, uint64_t scratch) {
  AgentAggregateTiling tiling{};
  const uint64_t unit = kUnitBytes / element_bytes;
  const uint64_t units = (size + unit - 1) / unit;
  const uint64_t cores = std::clamp<uint64_t>(units, 1, device.cores);
  const uint64_t share = (units + cores - 1) / cores * unit;
  const uint64_t unit_bytes = unit * bytes_per_element + (unit + 255) / 256 * scratch;
  const uint64_t largest = (device.ub_bytes - fixed_bytes) / unit_bytes * unit;
  tiling.size = size;
  tiling.unit = static_cast<uint32_t>(unit);
  tiling.units_per_core = units / cores;
  tiling.extra_units = static_cast<uint32_t>(units % cores);
  tiling.tile = static_cast<uint32_t>(std::clamp(share, unit, largest));
  tiling.branches = branches;
  tiling.cores = static_cast<uint32_t>(cores);
  return tiling;
}

inline AgentAggregateTiling PlanForward(const Device& device, uint64_t size, uint32_t branches,
                                        uint64_t element_bytes) {
  return Plan(device, size, branches, element_bytes, ForwardBytesPerElement(element_bytes), kRowBytes, 0);
}

// ReduceSum needs a float for each 64 elements, in whole rows: 32 bytes for 512 elements, taken as 32 for 256.
inline AgentAggregateTiling PlanBackward(const Device& device, uint64_t size, uint32_t branches,
                                         uint64_t element_bytes) {
  const uint64_t fixed = 3 * kRowBytes + device.cores * kRowBytes + kRowBytes;
  return Plan(device, size, branches, element_bytes, BackwardBytesPerElement(element_bytes), fixed, kRowBytes);
}

// A row of dot products for each core.
inline uint64_t BackwardWorkspaceBytes(const AgentAggregateTiling& tiling) { return tiling.cores * kRowBytes; }

}  // namespace aggregate
