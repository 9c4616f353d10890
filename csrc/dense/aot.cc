// MindSpore's entry points: checks, the call, and shape and dtype inference for graphs with dynamic shapes.
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
  call.ExpectDType(0, "relu", DType::kFloat32);
  call.ExpectSingle(1, "x");
  call.ExpectSingle(2, "weight");
  DenseForward p;
  bool fits = !x.shape.empty() && weight.shape.size() == 2 && weight.shape[1] >= 1;
  if (fits && weight.shape[1] != x.shape.back()) {
    int64_t row = 1;
    for (size_t i = 1; i < x.shape.size(); ++i) row *= x.shape[i];
    fits = x.shape.size() > 2 && row == weight.shape[1];
  }
  if (!fits) {
    Fail(kOp, "weight", "shape " + weight.ShapeText() + " for x " + x.ShapeText(), "(outputs, inputs), inputs >= 1");
  }
  p.inputs = weight.shape[1];
  p.outputs = weight.shape[0];
  p.batch = x.Size() / p.inputs;
  p.relu = *static_cast<const float*>(call[0].data) != 0;
  p.dtype = x.dtype;
  p.x = x.data;
  p.weight_dtype = weight.dtype;
  p.weight = weight.data;
  if (has_bias) {
    call.ExpectSingle(3, "bias");
    call.ExpectSize(3, "bias", p.outputs);
    p.bias_dtype = call[3].dtype;
    p.bias = call[3].data;
  }
  const int last = call.Count() - 1;
  call.ExpectDType(last, "y", x.dtype);
  call.ExpectSize(last, "y", p.batch * p.outputs);
  p.y = call[last].data;
  return p;
}

// What both gradients take: an operand with `inputs` columns, dy, and y where ReLU was fused.
void FillGradient(const AotCall& call, const char* op, int results, DenseGradient* p) {
  call.ExpectSingle(1, "dy");
  p->dtype = call[1].dtype;
  for (int i = 2; i < call.Count(); ++i) call.ExpectDType(i, "parameter " + std::to_string(i), p->dtype);
  const Tensor& operand = call[0];
  const Tensor& dy = call[1];
  if (dy.shape.empty() || operand.shape.empty() || operand.shape.back() < 1) {
    Fail(op, "dy", "shape " + dy.ShapeText() + " beside an operand " + operand.ShapeText(),
         "(..., outputs) beside (..., inputs), inputs >= 1");
  }
  p->outputs = dy.shape.back();
  p->inputs = operand.shape.back();
  p->batch = 1;
  for (size_t i = 0; i + 1 < dy.shape.size(); ++i) p->batch *= dy.shape[i];
  p->dy = call[1].data;
  if (call.Count() == 3 + results) {
    call.ExpectSameShape(2, "y", 1, "dy");
    p->y = call[2].data;
  }
}

}  // namespace
}  // namespace maam

// relu (0 or 1), x (..., inputs), weight, and bias where there is one -> y (..., outputs); or x of several dimensions
// behind the first, whose product is the inputs -> y (batch, outputs)
MAAM_AOT(DenseForward) {
  const maam::DenseForward p = maam::ProblemOf(call);
  const maam::Tensor& y = call[call.Count() - 1];
  {
    maam::Trace trace("dense_forward", maam::DenseForwardIsa(p), y, call.Bytes(), maam::DenseForwardScratch(p));
    maam::RunDenseForward(p);
  }
  maam::CheckFinite("DenseForward", "y", y);
}

MAAM_EXPORT maam::Shape DenseForwardInferShape(int* ndims, int64_t** shapes, void*) {
  maam::Shape shape = maam::ShapeAt(ndims, shapes, 1);
  if (shape.size() > 2 && shape.back() >= 0 && shape.back() != shapes[2][1]) shape.resize(2);  // flattened
  shape.back() = shapes[2][0];
  return shape;
}
MAAM_EXPORT maam::TypeId DenseForwardInferType(std::vector<maam::TypeId> types, void*) { return types[1]; }

// weight, dy (..., outputs), and y where ReLU was fused -> dx (..., inputs)
MAAM_AOT(DenseInputGradient) {
  maam::DenseInputGradient p;
  maam::FillGradient(call, "DenseInputGradient", 1, &p);
  const int last = call.Count() - 1;
  call.ExpectSize(0, "weight", p.outputs * p.inputs);
  call.ExpectSize(last, "dx", p.batch * p.inputs);
  call.ExpectSingle(0, "weight");
  p.weight_dtype = call[0].dtype;
  p.weight = call[0].data;
  p.dx = call[last].data;
  {
    maam::Trace trace("dense_input_gradient", maam::DenseGradientIsa(), call[last], call.Bytes(),
                      maam::DenseGradientScratch(p, p.outputs));
    maam::RunDenseInputGradient(p);
  }
  maam::CheckFinite("DenseInputGradient", "dx", call[last]);
}

MAAM_EXPORT maam::Shape DenseInputGradientInferShape(int* ndims, int64_t** shapes, void*) {
  maam::Shape shape = maam::ShapeAt(ndims, shapes, 1);
  shape.back() = shapes[0][1];
  return shape;
}
MAAM_EXPORT maam::TypeId DenseInputGradientInferType(std::vector<maam::TypeId> types, void*) { return types[1]; }

// x (..., inputs), dy (..., outputs), and y where ReLU was fused -> dW, db
MAAM_AOT(DenseParameterGradients) {
  maam::DenseParameterGradients p;
  maam::FillGradient(call, "DenseParameterGradients", 2, &p);
  const int last = call.Count() - 1;
  call.ExpectSize(0, "x", p.batch * p.inputs);
  call.ExpectSize(last - 1, "dW", p.outputs * p.inputs);
  call.ExpectSize(last, "db", p.outputs);
  call.ExpectDType(0, "x", p.dtype);
  p.x = call[0].data;
  p.dweight = call[last - 1].data;
  p.dbias = call[last].data;
  {
    maam::Trace trace("dense_parameter_gradients", maam::DenseGradientIsa(), call[last - 1], call.Bytes(),
                      maam::DenseGradientScratch(p, p.batch));
    maam::RunDenseParameterGradients(p);
  }
  maam::CheckFinite("DenseParameterGradients", "dW", call[last - 1]);
  maam::CheckFinite("DenseParameterGradients", "db", call[last]);
}

MAAM_EXPORT std::vector<maam::Shape> DenseParameterGradientsInferShape(int* ndims, int64_t** shapes, void*) {
  const int64_t inputs = maam::ShapeAt(ndims, shapes, 0).back();
  const int64_t outputs = maam::ShapeAt(ndims, shapes, 1).back();
  return {{outputs, inputs}, {outputs}};
}
MAAM_EXPORT std::vector<maam::TypeId> DenseParameterGradientsInferType(std::vector<maam::TypeId> types, void*) {
  return {types[0], types[0]};
}
