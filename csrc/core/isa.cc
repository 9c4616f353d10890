#include "core/isa.h"

#include <atomic>
#include <cstdlib>
#include <fstream>

#include "core/error.h"

namespace maam {
namespace {

Isa InitialCap() {
  const char* text = std::getenv("MAAM_OPS_ISA");
  return text != nullptr && *text != '\0' ? ParseIsa(text) : Isa::kAvx512Bf16;
}

std::atomic<Isa>& Cap() {
  static std::atomic<Isa> cap{InitialCap()};
  return cap;
}

}  // namespace

const char* Name(Isa isa) {
  switch (isa) {
    case Isa::kCuda:
      return "cuda";
    case Isa::kAvx512Bf16:
      return "avx512bf16";
    case Isa::kAvx512Vnni:
      return "avx512vnni";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    default:
      return "portable";
  }
}

Isa ParseIsa(const std::string& name) {
  for (Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16}) {
    if (name == Name(isa)) return isa;
  }
  throw Error("maam_ops: MAAM_OPS_ISA: got '" + name +
              "', expected one of portable, avx2, avx512, avx512vnni, avx512bf16");
}

// A build for verification emulates AVX-512, see tests/verify/emulation.
#ifdef MAAM_OPS_EMULATE_AVX512
#define MAAM_HAS_AVX512(extension) true
#else
#define MAAM_HAS_AVX512(extension) __builtin_cpu_supports("avx512" extension)
#endif

Isa DetectedIsa() {
#if MAAM_X86
  static const Isa detected = [] {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    const bool avx512 =
        avx2 && MAAM_HAS_AVX512("f") && MAAM_HAS_AVX512("bw") && MAAM_HAS_AVX512("dq") && MAAM_HAS_AVX512("vl");
    if (avx512 && MAAM_HAS_AVX512("vnni")) return MAAM_HAS_AVX512("bf16") ? Isa::kAvx512Bf16 : Isa::kAvx512Vnni;
    return avx512 ? Isa::kAvx512 : avx2 ? Isa::kAvx2 : Isa::kPortable;
  }();
  return detected;
#else
  return Isa::kPortable;
#endif
}

Isa ActiveIsa() {
  const Isa cap = Cap().load(std::memory_order_relaxed);
  return cap < DetectedIsa() ? cap : DetectedIsa();
}

void CapIsa(Isa cap) { Cap().store(cap, std::memory_order_relaxed); }

// What one core can use. sysconf would answer for the whole package: 320 MiB on an AMD server of 32 MiB a core complex.
int64_t LastLevelCacheBytes() {
  static const int64_t bytes = [] {
    int64_t kibibytes = 0;
    for (int level : {3, 2}) {
      std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(level) + "/size");
      if (file >> kibibytes) break;  // "32768K"
    }
    return kibibytes > 0 ? kibibytes << 10 : int64_t{32} << 20;  // not reported by some virtual machines
  }();
  return bytes;
}

bool StreamingPays(int64_t bytes) { return bytes > LastLevelCacheBytes() + LastLevelCacheBytes() / 4; }

}  // namespace maam
