#pragma once

namespace maam::cuda {

// MAAM_OPS_TF32=1: float32 products on tensor cores, their operands cut to ten bits of fraction. Read once.
bool Tf32Requested();

}  // namespace maam::cuda
