// What a variant of the Adam kernel implements.
#pragma once

#include "adam/adam.h"

namespace maam {

// Elements [begin, end) of one parameter.
using AdamUpdateKernel = void(const AdamUpdate& p, const AdamParameter& parameter, int64_t begin, int64_t end);

namespace adam_kernels {
using adam_update = AdamUpdateKernel;
}  // namespace adam_kernels

#define MAAM_KERNEL(kernel, isa) adam_kernels::kernel kernel##_##isa;
#include "adam/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
