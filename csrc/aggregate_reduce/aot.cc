// MindSpore's entry points: checks, the call, and shape and dtype inference for graphs with dynamic shapes.
#include "reduce/aot.h"
#include "aggregate_reduce/aggregate_reduce.h"
#include "core/error.h"
#include "core/trace.h"

namespace maam {
namespace {

void ExpectBranches(const AotCall& call, const char* op, int branches) {
  if (branches < kMinBranches || branches > kMaxBranches) Fail(op, "branches", std::to_string(branches), "2 to 8");
  call.ExpectSize(0, "alpha", branches);
}

void Mix(const AotCall& call, ReduceOperands* p) {
  call.ExpectDType(0, "alpha", ParameterDType(p->dtype));
  MixBranches(call[0].data, p);
}

// alpha, constants, weight, gamma, beta, moving_mean, moving_variance, A_1..A_N.
void InferenceOperands(const AotCall& call, const char* op, int branches, ReduceInference* p) {
  ExpectBranches(call, op, branches);
  ReduceCall(call, op).InferenceOperands(1, 7, branches, p);
  Mix(call, p);
}

void GradientResults(const AotCall& call, const char* op, int first, int weight, ReduceBackward* p) {
  const ReduceCall args(call, op);
  const int results = first + p->branches;
  call.ExpectSameShape(results, "d alpha", 0, "alpha");
  call.ExpectDType(results, "d alpha", call[0].dtype);
  args.ParameterGradients(results + 1, weight, p);
  for (int k = 0; k < p->branches; ++k) args.BranchGradient(results + 4 + k, first + k, k, p);
}

// N is the number of elements of alpha: inference is told shapes, not how many there are.
std::vector<Shape> GradientShapes(const int* ndims, int64_t** shapes, int weight, int first) {
  std::vector<Shape> result{ShapeAt(ndims, shapes, 0)};
  int64_t branches = 1;
  for (int64_t extent : result[0]) branches *= extent;
  for (int i = 0; i < 3; ++i) result.push_back(ShapeAt(ndims, shapes, weight + i));
  for (int64_t k = 0; k < branches; ++k) result.push_back(ShapeAt(ndims, shapes, first));
  return result;
}

std::vector<TypeId> GradientTypes(const std::vector<TypeId>& types, int weight, int first) {
  std::vector<TypeId> result{types[0], types[weight], types[weight + 1], types[weight + 2]};
  result.insert(result.end(), types.begin() + first, types.end());
  return result;
}

}  // namespace
}  // namespace maam

using maam::AotCall;
using maam::ReduceCall;

// alpha, constants (eps, momentum), weight, gamma, beta, moving_mean, moving_variance, A_1..A_N -> F
MAAM_AOT(AggregateReduceInference) {
  const char* const op = "AggregateReduceInference";
  const int branches = call.Count() - 8;
  const ReduceCall args(call, op);
  maam::ReduceInference p;
  maam::InferenceOperands(call, op, branches, &p);
  p.f = args.Image(7 + branches, "F", p);
  {
    maam::Trace trace("aggregate_reduce_inference", maam::ReduceIsa(), call[7 + branches], ReduceBytes(p, branches, 1),
                      ReduceForwardScratch(p));
    maam::RunReduceInference(p);
  }
  maam::CheckFinite(op, "F", call[7 + branches]);
}

MAAM_EXPORT maam::Shape AggregateReduceInferenceInferShape(int* ndims, int64_t** shapes, void*) {
  return maam::ReduceResultShape(ndims, shapes, 2, 7);
}
MAAM_EXPORT maam::TypeId AggregateReduceInferenceInferType(std::vector<maam::TypeId> types, void*) { return types[7]; }

// As AggregateReduceInference, for tests -> F and the error that a kernel may have, both float64
MAAM_AOT(AggregateReduceInferenceReference) {
  const char* const op = "AggregateReduceInferenceReference";
  const int branches = call.Count() - 9;
  maam::ReduceInference p;
  maam::InferenceOperands(call, op, branches, &p);
  ReduceCall(call, op).RunReference(7 + branches, p);
}

// alpha, constants, weight, gamma, beta, moving_mean, moving_variance, A_1..A_N
//     -> F, Z, mean, rstd, new moving_mean, new moving_variance
MAAM_AOT(AggregateReduceTraining) {
  const char* const op = "AggregateReduceTraining";
  const int branches = call.Count() - 13;
  const ReduceCall args(call, op);
  maam::ReduceTraining p;
  maam::InferenceOperands(call, op, branches, &p);
  args.TrainingResults(1, 7 + branches, &p);
  {
    maam::Trace trace("aggregate_reduce_training", maam::ReduceIsa(), call[7 + branches], ReduceBytes(p, branches, 2),
                      ReduceForwardScratch(p));
    maam::RunReduceTraining(p);
  }
  maam::CheckFinite(op, "F", call[7 + branches]);
}

MAAM_EXPORT std::vector<maam::Shape> AggregateReduceTrainingInferShape(int* ndims, int64_t** shapes, void*) {
  return maam::ReduceTrainingShapes(ndims, shapes, 2, 7);
}
MAAM_EXPORT std::vector<maam::TypeId> AggregateReduceTrainingInferType(std::vector<maam::TypeId> types, void*) {
  return maam::ReduceTrainingTypes(types, 2, 7);
}

// alpha, weight, gamma, beta, mean, rstd, Z, dF, A_1..A_N -> d alpha, dW, d gamma, d beta, dA_1..dA_N
MAAM_AOT(AggregateReduceBackward) {
  const char* const op = "AggregateReduceBackward";
  const int branches = (call.Count() - 12) / 2;
  const ReduceCall args(call, op);
  maam::ReduceBackward p;
  maam::ExpectBranches(call, op, branches);
  args.Operands(1, 8, branches, &p);
  maam::Mix(call, &p);
  args.ExpectBatch(p);
  p.mean = args.Vector(4, "mean", p);
  p.rstd = args.Vector(5, "rstd", p);
  p.z = args.Image(6, "Z", p);
  p.df = args.Image(7, "dF", p);
  maam::GradientResults(call, op, 8, 1, &p);
  {
    maam::Trace trace("aggregate_reduce_backward", maam::ReduceIsa(), call[7], ReduceBytes(p, 2 * branches, 2),
                      ReduceBackwardScratch(p));
    maam::RunAggregateReduceBackward(&p, call[8 + branches].data);
  }
  for (int i = 8 + branches; i < call.Count(); ++i) maam::CheckFinite(op, "a gradient", call[i]);
}

MAAM_EXPORT std::vector<maam::Shape> AggregateReduceBackwardInferShape(int* ndims, int64_t** shapes, void*) {
  return maam::GradientShapes(ndims, shapes, 1, 8);
}
MAAM_EXPORT std::vector<maam::TypeId> AggregateReduceBackwardInferType(std::vector<maam::TypeId> types, void*) {
  return maam::GradientTypes(types, 1, 8);
}

// alpha, constants, weight, gamma, beta, moving_mean, moving_variance, dF, A_1..A_N
//     -> d alpha, dW, d gamma, d beta, dA_1..dA_N
MAAM_AOT(AggregateReduceInferenceBackward) {
  const char* const op = "AggregateReduceInferenceBackward";
  const int branches = (call.Count() - 12) / 2;
  const ReduceCall args(call, op);
  maam::ReduceBackward p;
  double momentum;
  maam::ExpectBranches(call, op, branches);
  args.Operands(2, 8, branches, &p);
  maam::Mix(call, &p);
  args.Constants(1, &p, &p.eps, &momentum);
  p.mean = args.Vector(5, "moving_mean", p);
  p.variance = args.Vector(6, "moving_variance", p);
  p.df = args.Image(7, "dF", p);
  maam::GradientResults(call, op, 8, 2, &p);
  {
    maam::Trace trace("aggregate_reduce_inference_backward", maam::ReduceIsa(), call[7],
                      ReduceBytes(p, 2 * branches, 1), ReduceBackwardScratch(p));
    maam::RunAggregateReduceBackward(&p, call[8 + branches].data);
  }
  for (int i = 8 + branches; i < call.Count(); ++i) maam::CheckFinite(op, "a gradient", call[i]);
}

MAAM_EXPORT std::vector<maam::Shape> AggregateReduceInferenceBackwardInferShape(int* ndims, int64_t** shapes, void*) {
  return maam::GradientShapes(ndims, shapes, 2, 8);
}
MAAM_EXPORT std::vector<maam::TypeId> AggregateReduceInferenceBackwardInferType(std::vector<maam::TypeId> types,
                                                                                void*) {
  return maam::GradientTypes(types, 2, 8);
}
