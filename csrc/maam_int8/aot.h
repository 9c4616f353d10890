// Reads operands of the modules on bytes out of a call, and checks them.
#pragma once

#include <string>

#include "core/aot.h"
#include "maam_int8/maam_int8.h"

namespace maam {

class Int8Call {
 public:
  Int8Call(const AotCall& call, const char* op) : call_(call), op_(op) {}

  // Parameter 0, images; parameter 1, 1 / step and zero.
  const float* Images(int64_t* batch, int64_t* inputs, int64_t* height, int64_t* width) const;
  void Input(float* per_step, float* zero) const;
  // Parameter 2, the branches' kernel sizes; how many there are.
  int Branches() const;
  int64_t Kernel(int branch) const;
  // Packed weight of `outputs` at parameter i, its bias behind it.
  ConvInt8 Conv(int i, const std::string& name, int64_t outputs, int64_t inputs, int64_t kernel) const;
  const float* Scale(int i, const std::string& name, int64_t outputs) const;
  // The last parameter: (B, H / 2, W / 2, O rounded up to kQuad).
  uint8_t* F(int64_t batch, int64_t height, int64_t width, int64_t outputs) const;

 private:
  const AotCall& call_;
  const char* op_;
};

// For inference of shapes: F of images at parameter 0 with `outputs` channels.
Shape Int8FShape(int* ndims, int64_t** shapes, int64_t outputs);
constexpr TypeId kUInt8Type = 37;  // MindSpore's

}  // namespace maam
