// The inventory of kernel variants and the choice among them. An operator lists its variants in `kernels.inc` with
// MAAM_KERNEL(kernel, isa) lines; the same lines declare them, put them into the inventory, and name them to Python,
// where tests and benchmarks go through all of them.
#pragma once

#include <vector>

#include "core/export.h"
#include "core/isa.h"

namespace maam {

struct Variant {
  const char* kernel;
  Isa isa;
  void (*run)();  // of the kernel's own type, which Choose() restores
};

// Every variant that was compiled in.
MAAM_PUBLIC std::vector<Variant>& Inventory();

struct RegisterVariant {
  RegisterVariant(const char* kernel, Isa isa, void (*run)()) { Inventory().push_back({kernel, isa, run}); }
};

// The highest variant of a kernel that this CPU runs and the user's cap admits. A portable one always exists.
// `highest`: for a call that the variants above are not for.
const Variant& ChooseVariant(const char* kernel, Isa highest = Isa::kAvx512Bf16);

template <class Kernel>
Kernel* Choose(const Variant& variant) {
  return reinterpret_cast<Kernel*>(variant.run);
}

namespace isa_names {  // turns the `avx2` of an inventory line into Isa::kAvx2
constexpr Isa portable = Isa::kPortable;
constexpr Isa avx2 = Isa::kAvx2;
constexpr Isa avx512 = Isa::kAvx512;
constexpr Isa avx512vnni = Isa::kAvx512Vnni;
constexpr Isa avx512bf16 = Isa::kAvx512Bf16;
}  // namespace isa_names

}  // namespace maam

// For MAAM_KERNEL in an operator's cpu.cc.
#define MAAM_REGISTER_KERNEL(kernel, isa)                                                         \
  static const ::maam::RegisterVariant register_##kernel##_##isa(#kernel, ::maam::isa_names::isa, \
                                                                 reinterpret_cast<void (*)()>(kernel##_##isa));
