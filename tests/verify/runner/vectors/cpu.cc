#define MAAM_ISA portable
#include <string>

#include "core/aot.h"
#include "operations-inl.h"

namespace {

bool Register(const char* isa, const vectors::Operations& operations) {
  for (int i = 0; i < operations.count; ++i) {
    const vectors::Operation& operation = operations.first[i];
    maam::AotFunctions()["Vector" + std::string(operation.name) + "_" + isa] = operation.run;
  }
  return true;
}

const bool registered_portable = Register("portable", vectors::operations_portable());
#if MAAM_X86
const bool registered_avx2 = Register("avx2", vectors::operations_avx2());
const bool registered_avx512 = Register("avx512", vectors::operations_avx512());
#endif

}  // namespace
