// The limits of this machine, by the fastest loops we know: what a kernel that moves so many streams, or multiplies so
// many numbers, could reach at best. Benchmarks run them beside a kernel, on the same buffers; nothing else uses them.
#pragma once

#include <cstdint>

#include "core/export.h"
#include "core/isa.h"

namespace maam {

constexpr int kMaxCeilingReads = 4;
constexpr int kMaxCeilingWrites = 3;
// Every stream holds a multiple of so many float32: whole blocks on every path, so no loop has a tail.
constexpr int64_t kCeilingBlock = 1024;

// One pass over memory: each in[i] is read once, each out[j] written once, with as little arithmetic as makes the
// result depend on everything read. Which order and which stores are fastest depends on size and machine, so all
// combinations exist and the fastest counts.
struct BandwidthPass {
  int reads = 0;   // 1 to kMaxCeilingReads
  int writes = 0;  // 1 to kMaxCeilingWrites
  int64_t size = 0;
  const float* in[kMaxCeilingReads] = {};
  float* out[kMaxCeilingWrites] = {};  // aligned to 64 bytes if streaming
  bool streaming = false;              // stores bypass the cache
  bool blocked = false;  // one stream after the other over kCeilingBlock elements, else a vector of each in turn
  bool ranges = false;   // one contiguous range a thread, else tasks handed out as threads become free
};
MAAM_PUBLIC void RunBandwidthPass(const BandwidthPass& p);

// A fixed amount of float32 multiply-add on registers, on all threads; returns the floating-point operations done.
MAAM_PUBLIC double RunFmaPass();

// What a variant implements: elements [begin, end) of the pass, both multiples of kCeilingBlock.
using CeilingBandwidthKernel = void(const BandwidthPass& p, int64_t begin, int64_t end);
// `iterations` rounds of independent chains; returns the operations done, and in *sink what keeps them from being
// optimised away.
using CeilingFmaKernel = double(int64_t iterations, float* sink);

namespace ceiling_kernels {
using ceiling_bandwidth = CeilingBandwidthKernel;
using ceiling_fma = CeilingFmaKernel;
}  // namespace ceiling_kernels

#define MAAM_KERNEL(kernel, isa) ceiling_kernels::kernel kernel##_##isa;
#include "ceiling/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
