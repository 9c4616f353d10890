// The vectors of core/simd.h as entry points, so that a test can compare each operation with plain arithmetic, in every
// instruction set: VectorADD_avx512 and so on, see operations-inl.h for the parameters.
#pragma once

#include <cstdint>

#include "core/isa.h"

namespace vectors {

struct Operation {
  const char* name;
  int (*run)(int, void**, int*, int64_t**, const char**, void*,
             void*);  // of core/aot.h, which is not for kernel sources
};

struct Operations {
  const Operation* first;
  int count;
};

Operations operations_portable();
#if MAAM_X86
Operations operations_avx2();
Operations operations_avx512();
#endif

}  // namespace vectors
