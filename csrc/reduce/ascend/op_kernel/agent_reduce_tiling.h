// How the reduce is split: filled in by op_host, read by the kernel. Plain data, copied to the device as bytes.
#pragma once

#include <cstdint>

#include "kernel_tiling/kernel_tiling.h"

// A unit of work is one block of pixels of one image, all output channels. Worker w (a vector core) takes units w,
// w + workers, ...; it brings `rows` output channels at a time into the Unified Buffer.
struct AgentReduceTiling {
  uint64_t images;
  uint64_t pixels;  // of an image
  uint32_t channels;
  uint32_t outputs;
  uint32_t block;   // pixels of a unit; the last one of an image may have fewer
  uint32_t blocks;  // of an image
  uint32_t rows;
  uint32_t workers;
  AscendC::tiling::TCubeTiling cube;
};
