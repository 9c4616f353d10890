// The choice of the split and of the tile. Plain C++: the host tests run it as the operator build does.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../op_kernel/agent_reduce_tiling.h"

namespace reduce {

struct Device {
  uint32_t workers;  // vector cores
  uint64_t ub_bytes;
};

struct Shape {
  uint64_t images;
  uint32_t channels;
  uint32_t outputs;
  uint64_t pixels;
};

constexpr uint32_t kLargestBlock = 512;
constexpr uint32_t kSmallestBlock = 32;  // below it the cube would mostly wait for its operands

inline uint64_t RoundUpTo(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// The largest block of pixels with which the busiest worker has at most a tenth more units than the average.
inline uint32_t ChooseBlock(const Device& device, const Shape& shape) {
  uint32_t block = kLargestBlock;
  for (; block > kSmallestBlock; block /= 2) {
    const uint64_t units = shape.images * ((shape.pixels + block - 1) / block);
    const uint64_t busiest = (units + device.workers - 1) / device.workers;
    if (busiest * device.workers * 10 <= units * 11) break;
  }
  return static_cast<uint32_t>(std::min<uint64_t>(block, shape.pixels));
}

// Everything but the cube's own tiling, which CANN computes.
inline AgentReduceTiling Plan(const Device& device, const Shape& shape, uint64_t element_bytes) {
  AgentReduceTiling tiling{};
  tiling.images = shape.images;
  tiling.pixels = shape.pixels;
  tiling.channels = shape.channels;
  tiling.outputs = shape.outputs;
  tiling.block = ChooseBlock(device, shape);
  tiling.blocks = static_cast<uint32_t>((shape.pixels + tiling.block - 1) / tiling.block);
  tiling.workers = device.workers;
  const uint64_t vectors = 2 * RoundUpTo(shape.outputs, 8) * sizeof(float);
  const uint64_t row =
      2 * RoundUpTo(tiling.block, 8) * sizeof(float) + 2 * RoundUpTo(tiling.block, 32 / element_bytes) * element_bytes;
  tiling.rows = static_cast<uint32_t>(std::min<uint64_t>(shape.outputs, (device.ub_bytes - vectors) / row));
  return tiling;
}

// A block of the product, float32, for each worker.
inline uint64_t WorkspaceBytes(const AgentReduceTiling& tiling) {
  return sizeof(float) * tiling.workers * tiling.outputs * tiling.block;
}

}  // namespace reduce
