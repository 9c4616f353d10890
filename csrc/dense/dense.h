// Dense layer, Eq. 4 to 8 of the MAAM paper: y = x W^T + b, and max(y, 0) where asked for, in float32.
//
// W is row-major (outputs, inputs), as nn.Dense keeps it, so that both operands of every dot product are contiguous. It
// streams from memory once a call, whatever the batch.
#pragma once

#include <cstdint>

#include "core/isa.h"

namespace maam {

// x (batch, inputs), weight (outputs, inputs), bias (outputs) or null, y (batch, outputs). Buffers do not overlap and
// need no alignment.
struct DenseForward {
  int64_t batch = 0;
  int64_t inputs = 0;
  int64_t outputs = 0;
  bool relu = false;
  const float* x = nullptr;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float* y = nullptr;
};

// The operator: picks the variant and the threads. Bitwise the same result for any thread count, and a row of y does
// not depend on the other rows of the batch.
void RunDenseForward(const DenseForward& p);
Isa DenseForwardIsa();

// Working memory of one call, in bytes.
int64_t DenseForwardScratch(const DenseForward& p);

// The gradients, for an incoming dy (batch, outputs), taken as 0 where y <= 0 if y is given (ReLU was fused):
//
//   dx = dy W      dW = dy^T x      db = sum dy
//
// Two operators, because they share no large operand: whoever needs no dx, as in a net's first layer, pays for none.
struct DenseGradient {
  int64_t batch = 0;
  int64_t inputs = 0;
  int64_t outputs = 0;
  const float* dy = nullptr;
  const float* y = nullptr;  // or null
};
struct DenseInputGradient : DenseGradient {
  const float* weight = nullptr;
  float* dx = nullptr;
};
struct DenseParameterGradients : DenseGradient {
  const float* x = nullptr;
  float* dweight = nullptr;
  float* dbias = nullptr;
};
void RunDenseInputGradient(const DenseInputGradient& p);
void RunDenseParameterGradients(const DenseParameterGradients& p);
Isa DenseGradientIsa();
int64_t DenseGradientScratch(const DenseGradient& p);

}  // namespace maam
