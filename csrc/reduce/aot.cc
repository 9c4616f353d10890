// MindSpore's entry points: checks, the call, and shape and dtype inference for graphs with dynamic shapes.
#include "reduce/aot.h"

#include "core/error.h"
#include "core/trace.h"

namespace maam {

void ReduceCall::Operands(int weight, int first, int branches, ReduceOperands* p) const {
  const Tensor& a = call_[first];
  if (a.shape.size() < 2) Fail(op_, "G", "shape " + a.ShapeText(), "(batch, channels, ...)");
  p->stream = call_.Stream();
  p->dtype = a.dtype;
  p->branches = branches;
  p->batch = a.shape[0];
  p->inputs = a.shape[1];
  p->pixels = 1;
  for (size_t i = 2; i < a.shape.size(); ++i) p->pixels *= a.shape[i];
  for (int k = 0; k < branches; ++k) {
    const std::string name = "branch " + std::to_string(k);
    call_.ExpectSameShape(first + k, name, first, "branch 0");
    call_.ExpectDType(first + k, name, p->dtype);
    p->a[k] = call_[first + k].data;
  }
  const Tensor& w = call_[weight];
  if (w.shape.size() < 2 || w.shape[1] != p->inputs || w.Size() != w.shape[0] * w.shape[1] || w.Size() == 0) {
    Fail(op_, "weight", "shape " + w.ShapeText(),
         "(outputs, " + std::to_string(p->inputs) + ") or (outputs, " + std::to_string(p->inputs) +
             ", 1, 1), and at least one channel of each");
  }
  if (w.dtype != p->dtype) call_.ExpectDType(weight, "weight", ParameterDType(p->dtype));
  p->outputs = w.shape[0];
  p->weight_dtype = w.dtype;
  p->weight = w.data;
  p->gamma = Vector(weight + 1, "gamma", *p);
  p->beta = Vector(weight + 2, "beta", *p);
}

void ReduceCall::Constants(int i, ReduceOperands* p, double* eps, double* momentum) const {
  call_.ExpectSize(i, "constants", 2);
  if (call_[i].dtype != DType::kFloat64) call_.ExpectDType(i, "constants", DType::kFloat32);
  p->constants = call_[i].data;
  p->constants_dtype = call_[i].dtype;
  ReadConstants(*p, eps, momentum);
}

void ReduceCall::InferenceOperands(int constants, int first, int branches, ReduceInference* p) const {
  double momentum;
  Constants(constants, p, &p->eps, &momentum);
  Operands(constants + 1, first, branches, p);
  p->moving_mean = Vector(constants + 4, "moving_mean", *p);
  p->moving_variance = Vector(constants + 5, "moving_variance", *p);
}

void* ReduceCall::Vector(int i, const char* name, const ReduceOperands& p) const {
  call_.ExpectSize(i, name, p.outputs);
  call_.ExpectDType(i, name, ParameterDType(p.dtype));
  return call_[i].data;
}

void* ReduceCall::Image(int i, const char* name, const ReduceOperands& p) const {
  call_.ExpectSize(i, name, p.outputs * p.Pixels());
  call_.ExpectDType(i, name, p.dtype);
  return call_[i].data;
}

void ReduceCall::RunReference(int i, const ReduceInference& p) const {
  for (int k : {i, i + 1}) {
    call_.ExpectSize(k, k == i ? "F" : "tolerance", p.outputs * p.Pixels());
    call_.ExpectDType(k, k == i ? "F" : "tolerance", DType::kFloat64);
  }
  ReduceInferenceReference(p, static_cast<double*>(call_[i].data), static_cast<double*>(call_[i + 1].data));
}

void ReduceCall::ExpectBatch(const ReduceOperands& p) const {
  if (p.Pixels() >= 2) return;
  Fail(op_, "G", std::to_string(p.Pixels()) + " elements a channel",
       "at least 2 in training, where the variance is that of the batch");
}

void ReduceCall::TrainingResults(int constants, int i, ReduceTraining* p) const {
  ExpectBatch(*p);
  Constants(constants, p, &p->eps, &p->momentum);
  p->f = Image(i, "F", *p);
  p->z = Image(i + 1, "Z", *p);
  p->mean = Vector(i + 2, "mean", *p);
  p->rstd = Vector(i + 3, "rstd", *p);
  p->new_moving_mean = Vector(i + 4, "new moving_mean", *p);
  p->new_moving_variance = Vector(i + 5, "new moving_variance", *p);
}

void ReduceCall::ParameterGradients(int i, int weight, ReduceBackward* p) const {
  call_.ExpectSameShape(i, "dW", weight, "weight");
  call_.ExpectDType(i, "dW", p->weight_dtype);
  p->dweight = call_[i].data;
  p->dgamma = Vector(i + 1, "d gamma", *p);
  p->dbeta = Vector(i + 2, "d beta", *p);
}

void ReduceCall::BranchGradient(int i, int branch, int k, ReduceBackward* p) const {
  const std::string name = "gradient of branch " + std::to_string(k);
  call_.ExpectSameShape(i, name, branch, "the branch");
  call_.ExpectDType(i, name, p->dtype);
  p->da[k] = call_[i].data;
}

Shape ReduceResultShape(const int* ndims, int64_t** shapes, int weight, int branch) {
  Shape shape = ShapeAt(ndims, shapes, branch);
  if (shape.size() > 1 && ndims[weight] > 0) shape[1] = shapes[weight][0];
  return shape;
}

std::vector<Shape> ReduceTrainingShapes(const int* ndims, int64_t** shapes, int weight, int branch) {
  const Shape f = ReduceResultShape(ndims, shapes, weight, branch);
  const Shape channels = ShapeAt(ndims, shapes, weight + 1);
  return {f, f, channels, channels, channels, channels};
}

std::vector<TypeId> ReduceTrainingTypes(const std::vector<TypeId>& types, int weight, int branch) {
  const TypeId channels = types[weight + 1];
  return {types[branch], types[branch], channels, channels, channels, channels};
}

int64_t ReduceBytes(const ReduceOperands& p, int branches, int results) {
  return (branches * p.inputs + results * p.outputs) * p.Pixels() * SizeOf(p.dtype) +
         p.outputs * p.inputs * SizeOf(p.weight_dtype);
}

}  // namespace maam

using maam::AotCall;
using maam::ReduceCall;
using maam::ShapeAt;

// constants (eps, momentum), weight, gamma, beta, moving_mean, moving_variance, G -> F
MAAM_AOT(ReduceInference) {
  const ReduceCall args(call, "ReduceInference");
  maam::ReduceInference p;
  args.InferenceOperands(0, 6, 1, &p);
  p.f = args.Image(7, "F", p);
  {
    maam::Trace trace("reduce_inference", maam::ReduceIsa(), call[7], ReduceBytes(p, 1, 1), ReduceForwardScratch(p));
    maam::RunReduceInference(p);
  }
  maam::CheckFinite("ReduceInference", "F", call[7]);
}

MAAM_EXPORT maam::Shape ReduceInferenceInferShape(int* ndims, int64_t** shapes, void*) {
  return maam::ReduceResultShape(ndims, shapes, 1, 6);
}
MAAM_EXPORT maam::TypeId ReduceInferenceInferType(std::vector<maam::TypeId> types, void*) { return types[6]; }

// As ReduceInference, for tests -> F and the error that a kernel may have, both float64
MAAM_AOT(ReduceInferenceReference) {
  const ReduceCall args(call, "ReduceInferenceReference");
  maam::ReduceInference p;
  args.InferenceOperands(0, 6, 1, &p);
  args.RunReference(7, p);
}

// constants, weight, gamma, beta, moving_mean, moving_variance, G
//     -> F, Z, mean, rstd, new moving_mean, new moving_variance
MAAM_AOT(ReduceTraining) {
  const ReduceCall args(call, "ReduceTraining");
  maam::ReduceTraining p;
  args.InferenceOperands(0, 6, 1, &p);
  args.TrainingResults(0, 7, &p);
  {
    maam::Trace trace("reduce_training", maam::ReduceIsa(), call[7], ReduceBytes(p, 1, 2), ReduceForwardScratch(p));
    maam::RunReduceTraining(p);
  }
  maam::CheckFinite("ReduceTraining", "F", call[7]);
  for (int i = 11; i < 13; ++i) maam::CheckFinite("ReduceTraining", "new moving statistics", call[i]);
}

MAAM_EXPORT std::vector<maam::Shape> ReduceTrainingInferShape(int* ndims, int64_t** shapes, void*) {
  return maam::ReduceTrainingShapes(ndims, shapes, 1, 6);
}
MAAM_EXPORT std::vector<maam::TypeId> ReduceTrainingInferType(std::vector<maam::TypeId> types, void*) {
  return maam::ReduceTrainingTypes(types, 1, 6);
}

// weight, gamma, beta, mean, rstd, G, Z, dF -> dG, dW, d gamma, d beta
MAAM_AOT(ReduceBackward) {
  const ReduceCall args(call, "ReduceBackward");
  maam::ReduceBackward p;
  args.Operands(0, 5, 1, &p);
  args.ExpectBatch(p);
  p.mean = args.Vector(3, "mean", p);
  p.rstd = args.Vector(4, "rstd", p);
  p.z = args.Image(6, "Z", p);
  p.df = args.Image(7, "dF", p);
  args.BranchGradient(8, 5, 0, &p);
  args.ParameterGradients(9, 0, &p);
  {
    maam::Trace trace("reduce_backward", maam::ReduceIsa(), call[7], ReduceBytes(p, 2, 2), ReduceBackwardScratch(p));
    maam::RunReduceBackward(&p);
  }
  for (int i = 8; i < call.Count(); ++i) maam::CheckFinite("ReduceBackward", "a gradient", call[i]);
}

MAAM_EXPORT std::vector<maam::Shape> ReduceBackwardInferShape(int* ndims, int64_t** shapes, void*) {
  return {ShapeAt(ndims, shapes, 5), ShapeAt(ndims, shapes, 0), ShapeAt(ndims, shapes, 1), ShapeAt(ndims, shapes, 2)};
}
MAAM_EXPORT std::vector<maam::TypeId> ReduceBackwardInferType(std::vector<maam::TypeId> types, void*) {
  return {types[5], types[0], types[1], types[2]};
}

// constants, weight, gamma, beta, moving_mean, moving_variance, G, dF -> dG, dW, d gamma, d beta
MAAM_AOT(ReduceInferenceBackward) {
  const ReduceCall args(call, "ReduceInferenceBackward");
  maam::ReduceBackward p;
  double momentum;
  args.Constants(0, &p, &p.eps, &momentum);
  args.Operands(1, 6, 1, &p);
  p.mean = args.Vector(4, "moving_mean", p);
  p.variance = args.Vector(5, "moving_variance", p);
  p.df = args.Image(7, "dF", p);
  args.BranchGradient(8, 6, 0, &p);
  args.ParameterGradients(9, 1, &p);
  {
    maam::Trace trace("reduce_inference_backward", maam::ReduceIsa(), call[7], ReduceBytes(p, 2, 1),
                      ReduceBackwardScratch(p));
    maam::RunReduceBackward(&p);
  }
  for (int i = 8; i < call.Count(); ++i) maam::CheckFinite("ReduceInferenceBackward", "a gradient", call[i]);
}

MAAM_EXPORT std::vector<maam::Shape> ReduceInferenceBackwardInferShape(int* ndims, int64_t** shapes, void*) {
  return {ShapeAt(ndims, shapes, 6), ShapeAt(ndims, shapes, 1), ShapeAt(ndims, shapes, 2), ShapeAt(ndims, shapes, 3)};
}
MAAM_EXPORT std::vector<maam::TypeId> ReduceInferenceBackwardInferType(std::vector<maam::TypeId> types, void*) {
  return {types[6], types[1], types[2], types[3]};
}
