// Instruction sets: what this CPU has, and the cap the user set (MAAM_OPS_ISA).
#pragma once

#include <cstdint>
#include <string>

#include "core/export.h"

#if defined(__x86_64__)
#define MAAM_X86 1
#else
#define MAAM_X86 0
#endif

namespace maam {

// Ordered: a CPU that runs one runs all before it. kCuda is no CPU's: the kernels of the CUDA library are called so.
// kAvx512Vnni: AVX-512 with VNNI, for which only kernels on bytes have variants. kAvx512Bf16: with BF16 besides, for
// products of bfloat16.
enum class Isa { kPortable, kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16, kCuda };

// float32 in a vector.
constexpr int64_t FloatLanes(Isa isa) { return isa >= Isa::kAvx512 ? 16 : isa == Isa::kAvx2 ? 8 : 4; }

MAAM_PUBLIC const char* Name(Isa isa);
MAAM_PUBLIC Isa ParseIsa(const std::string& name);  // throws Error, naming the known ones

MAAM_PUBLIC Isa DetectedIsa();     // best one this CPU and operating system support
MAAM_PUBLIC Isa ActiveIsa();       // the detected one, or the cap where that is lower
MAAM_PUBLIC void CapIsa(Isa cap);  // process-wide; a cap above the detected one has no effect
int64_t LastLevelCacheBytes();
// Whether results should bypass the cache: measured, streaming stores are slower as long as the bytes that are touched
// fit into the last-level cache, and a fifth faster beyond, where a normal store first reads the line it overwrites.
bool StreamingPays(int64_t bytes);

}  // namespace maam
