// MindSpore's entry points: checks, the call, and shape and dtype inference for graphs with dynamic shapes.
#include "core/aot.h"
#include "core/error.h"
#include "core/int8.h"
#include "core/scratch.h"
#include "core/trace.h"
#include "dense_int8/dense_int8.h"

namespace maam {
namespace {

// x, weight, bias, scale, y
DenseInt8 ProblemOf(const AotCall& call, const char* op) {
  const Tensor& x = call[0];
  const Tensor& weight = call[1];
  call.ExpectDType(0, "x", DType::kUInt8);
  call.ExpectDType(1, "weight", DType::kInt8);
  call.ExpectDType(2, "bias", DType::kInt32);
  call.ExpectDType(3, "scale", DType::kFloat32);
  DenseInt8 p;
  p.outputs = call[2].Size();
  const int64_t blocks = (p.outputs + kOutputBlock - 1) / kOutputBlock;
  if (x.shape.empty() || x.shape.back() % kQuad != 0 || x.shape.back() < kQuad || x.shape.back() > kMaxDepth) {
    Fail(op, "x", "shape " + x.ShapeText(), "(..., inputs), inputs a multiple of 4 up to " + std::to_string(kMaxDepth));
  }
  p.inputs = x.shape.back();
  if (weight.shape != Shape{blocks, p.inputs / kQuad, kOutputBlock, kQuad}) {
    Fail(op, "weight", "shape " + weight.ShapeText(),
         Tensor{nullptr, DType::kInt8, {blocks, p.inputs / kQuad, kOutputBlock, kQuad}}.ShapeText() + " for x " +
             x.ShapeText() + " and a bias of " + std::to_string(p.outputs));
  }
  call.ExpectSize(3, "scale", p.outputs);
  p.batch = x.Size() / p.inputs;
  p.x = static_cast<const uint8_t*>(x.data);
  p.weight = static_cast<const int8_t*>(weight.data);
  p.bias = static_cast<const int32_t*>(call[2].data);
  p.scale = static_cast<const float*>(call[3].data);
  return p;
}

void Run(const AotCall& call, const DenseInt8& p) {
  Trace trace("dense_int8", DenseInt8Isa(), call[4], call.Bytes(), DenseInt8Scratch(p));
  RunDenseInt8(p);
}

Shape ResultShape(int* ndims, int64_t** shapes, int64_t multiple) {
  Shape shape = ShapeAt(ndims, shapes, 0);
  shape.back() = RoundUp(shapes[2][0], multiple);
  return shape;
}

}  // namespace
}  // namespace maam

// x (..., inputs) bytes, weight, bias, scale -> y (..., outputs) bytes, behind a ReLU
MAAM_AOT_WITH_INTEGERS(DenseInt8) {
  maam::DenseInt8 p = maam::ProblemOf(call, "DenseInt8");
  call.ExpectDType(4, "y", maam::DType::kUInt8);
  call.ExpectSize(4, "y", p.batch * maam::RoundUp(p.outputs, maam::kQuad));
  p.bytes = static_cast<uint8_t*>(call[4].data);
  maam::Run(call, p);
}

MAAM_EXPORT maam::Shape DenseInt8InferShape(int* ndims, int64_t** shapes, void*) {
  return maam::ResultShape(ndims, shapes, maam::kQuad);
}
MAAM_EXPORT maam::TypeId DenseInt8InferType(std::vector<maam::TypeId> types, void*) { return types[0]; }

// x, weight, bias, scale -> y (..., outputs) in float32
MAAM_AOT_WITH_INTEGERS(DenseInt8Float) {
  maam::DenseInt8 p = maam::ProblemOf(call, "DenseInt8Float");
  call.ExpectDType(4, "y", maam::DType::kFloat32);
  call.ExpectSize(4, "y", p.batch * p.outputs);
  p.floats = static_cast<float*>(call[4].data);
  maam::Run(call, p);
  maam::CheckFinite("DenseInt8Float", "y", call[4]);
}

MAAM_EXPORT maam::Shape DenseInt8FloatInferShape(int* ndims, int64_t** shapes, void*) {
  return maam::ResultShape(ndims, shapes, 1);
}
MAAM_EXPORT maam::TypeId DenseInt8FloatInferType(std::vector<maam::TypeId> types, void*) { return types[3]; }
