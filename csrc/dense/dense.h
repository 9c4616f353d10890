// Dense layer, Eq. 4 to 8 of the MAAM paper: y = x W^T + b, and max(y, 0) where asked for.
//
// W is row-major (outputs, inputs), as nn.Dense keeps it, so that both operands of every dot product are contiguous. It
// streams from memory once a call, whatever the batch. float32, float16 or bfloat16 in memory, each operand its own;
// all arithmetic is in float32, and y is rounded once.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/isa.h"

namespace maam {

// x (batch, inputs), weight (outputs, inputs), bias (outputs) or null, y (batch, outputs) of x's type. Buffers do not
// overlap and need no alignment.
struct DenseForward {
  int64_t batch = 0;
  int64_t inputs = 0;
  int64_t outputs = 0;
  bool relu = false;
  DType dtype = DType::kFloat32;  // of x and y
  DType weight_dtype = DType::kFloat32;
  DType bias_dtype = DType::kFloat32;
  const void* x = nullptr;
  const void* weight = nullptr;
  const void* bias = nullptr;
  void* y = nullptr;
};

// The operator: picks the variant and the threads. Bitwise the same result for any thread count, and a row of y does
// not depend on the other rows of the batch, nor on their number. With AVX512-BF16, products of bfloat16 by bfloat16
// take denormals for zero.
void RunDenseForward(const DenseForward& p);
Isa DenseForwardIsa(const DenseForward& p);

// Working memory of one call, in bytes.
int64_t DenseForwardScratch(const DenseForward& p);

// The gradients, for an incoming dy (batch, outputs), taken as 0 where y <= 0 if y is given (ReLU was fused):
//
//   dx = dy W      dW = dy^T x      db = sum dy
//
// Two operators, because they share no large operand: whoever needs no dx, as in a net's first layer, pays for none.
// All of one dtype, but for W.
struct DenseGradient {
  DType dtype = DType::kFloat32;
  int64_t batch = 0;
  int64_t inputs = 0;
  int64_t outputs = 0;
  const void* dy = nullptr;
  const void* y = nullptr;  // or null
};
struct DenseInputGradient : DenseGradient {
  DType weight_dtype = DType::kFloat32;
  const void* weight = nullptr;
  void* dx = nullptr;
};
struct DenseParameterGradients : DenseGradient {
  const void* x = nullptr;
  void* dweight = nullptr;
  void* dbias = nullptr;
};
void RunDenseInputGradient(const DenseInputGradient& p);
void RunDenseParameterGradients(const DenseParameterGradients& p);
Isa DenseGradientIsa();
int64_t DenseGradientScratch(const DenseGradient& p, int64_t depth);  // which the product sums over

}  // namespace maam
