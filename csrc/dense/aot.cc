// MindSpore's entry point: checks, the call, and shape and dtype inference for graphs with dynamic shapes.
#include "core/aot.h"
#include "core/error.h"
#include "core/trace.h"
#include "dense/dense.h"

namespace maam {
namespace {

constexpr const char* kOp = "DenseForward";

DenseForward ProblemOf(const AotCall& call) {
  const bool has_bias = call.Count() == 5;
  const Tensor& x = call[1];
  const Tensor& weight = call[2];
  for (int i = 0; i < call.Count(); ++i) call.ExpectDType(i, "parameter " + std::to_string(i), DType::kFloat32);
  if (x.shape.empty() || weight.shape.size() != 2 || weight.shape[1] != x.shape.back() || weight.shape[1] < 1) {
    Fail(kOp, "weight", "shape " + weight.ShapeText() + " for x " + x.ShapeText(), "(outputs, inputs), inputs >= 1");
  }
  DenseForward p;
  p.inputs = weight.shape[1];
  p.outputs = weight.shape[0];
  p.batch = x.Size() / p.inputs;
  p.relu = *static_cast<const float*>(call[0].data) != 0;
  p.x = static_cast<const float*>(x.data);
  p.weight = static_cast<const float*>(weight.data);
  if (has_bias) {
    call.ExpectSize(3, "bias", p.outputs);
    p.bias = static_cast<const float*>(call[3].data);
  }
  call.ExpectSize(call.Count() - 1, "y", p.batch * p.outputs);
  p.y = static_cast<float*>(call[call.Count() - 1].data);
  return p;
}

}  // namespace
}  // namespace maam

// relu (0 or 1), x (..., inputs), weight, and bias where there is one -> y (..., outputs)
MAAM_AOT(DenseForward) {
  const maam::DenseForward p = maam::ProblemOf(call);
  const maam::Tensor& y = call[call.Count() - 1];
  int64_t bytes = 0;
  for (int i = 0; i < call.Count(); ++i) bytes += call[i].Bytes();
  {
    maam::Trace trace("dense_forward", maam::DenseForwardIsa(), y, bytes, maam::DenseForwardScratch(p));
    maam::RunDenseForward(p);
  }
  maam::CheckFinite("DenseForward", "y", y);
}

MAAM_EXPORT maam::Shape DenseForwardInferShape(int* ndims, int64_t** shapes, void*) {
  maam::Shape shape = maam::ShapeAt(ndims, shapes, 1);
  shape.back() = shapes[2][0];
  return shape;
}
MAAM_EXPORT maam::TypeId DenseForwardInferType(std::vector<maam::TypeId> types, void*) { return types[1]; }
