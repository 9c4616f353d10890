// Dense layer on bytes, Eq. 4 to 8 of the MAAM paper: with integers z = x W^T + b,
//
//     y = min(round(max(z, 0) * scale), 127)    as bytes, for a layer with ReLU        or        y = z * scale    in
//     float32
//
// scale: one float32 for each output. round: to nearest, ties to even. z is exact, so that every instruction set and
// any number of threads give the same bits.
#pragma once

#include <cstdint>

#include "core/isa.h"

namespace maam {

// x (batch, inputs), inputs a multiple of kQuad; its values above 127 count as 127. weight: packed as in core/int8.h,
// none below -127. bias, scale (outputs). One result: bytes (batch, outputs rounded up to kQuad), zeros behind the last
// output, or floats (batch, outputs). Buffers do not overlap and need no alignment.
struct DenseInt8 {
  int64_t batch = 0;
  int64_t inputs = 0;
  int64_t outputs = 0;
  const uint8_t* x = nullptr;
  const int8_t* weight = nullptr;
  const int32_t* bias = nullptr;
  const float* scale = nullptr;
  uint8_t* bytes = nullptr;
  float* floats = nullptr;
};

// The operator: picks the variant and the threads.
void RunDenseInt8(const DenseInt8& p);
Isa DenseInt8Isa();

// Working memory of one call, in bytes.
int64_t DenseInt8Scratch(const DenseInt8& p);

}  // namespace maam
