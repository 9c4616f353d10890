// The portable kernels and the inventory; the split over threads is in forward.cc and backward.cc.
#define MAAM_ISA portable
#include "reduce/cpu-inl.h"

#include "core/dispatch.h"

namespace maam {

#define MAAM_KERNEL MAAM_REGISTER_KERNEL
#include "reduce/kernels.inc"
#undef MAAM_KERNEL

Isa ReduceIsa() { return ChooseVariant("reduce_infer").isa; }

}  // namespace maam
