// MindSpore's entry points: checks, the call, and shape and dtype inference for graphs with dynamic shapes.
#include "core/aot.h"
#include "aggregate/aggregate.h"
#include "core/error.h"
#include "core/trace.h"

namespace maam {
namespace {

void ExpectBranches(const char* op, int branches) {
  if (branches < kMinBranches || branches > kMaxBranches) {
    Fail(op, "branches", std::to_string(branches), "2 to 8");
  }
}

// alpha and the branches of either entry point; `first` is the position of A_1.
void FillForward(const AotCall& call, int branches, int first, AggregateForward* p) {
  p->stream = call.Stream();
  p->dtype = call[first].dtype;
  p->branches = branches;
  p->size = call[first].Size();
  p->alpha = call[0].data;
  call.ExpectSize(0, "alpha", branches);
  call.ExpectDType(0, "alpha", ParameterDType(p->dtype));
  for (int k = 0; k < branches; ++k) {
    const std::string name = "branch " + std::to_string(k);
    call.ExpectSameShape(first + k, name, first, "branch 0");
    call.ExpectDType(first + k, name, p->dtype);
    p->a[k] = call[first + k].data;
  }
}

// alpha, dG and the branches.
void FillBackward(const AotCall& call, int branches, AggregateBackward* p) {
  FillForward(call, branches, 2, p);
  call.ExpectSameShape(1, "dG", 2, "branch 0");
  call.ExpectDType(1, "dG", p->dtype);
  p->dg = call[1].data;
}

double* ReferenceResult(const AotCall& call, int i, int64_t size) {
  call.ExpectSize(i, "result", size);
  call.ExpectDType(i, "result", DType::kFloat64);
  return static_cast<double*>(call[i].data);
}

}  // namespace
}  // namespace maam

using maam::AotCall;
using maam::ShapeAt;

// alpha, A_1..A_N -> G
MAAM_AOT(AggregateForward) {
  const int branches = call.Count() - 2;
  maam::ExpectBranches("AggregateForward", branches);
  maam::AggregateForward p;
  maam::FillForward(call, branches, 1, &p);
  const maam::Tensor& g = call[branches + 1];
  call.ExpectSameShape(branches + 1, "G", 1, "branch 0");
  call.ExpectDType(branches + 1, "G", p.dtype);
  p.g = g.data;
  {
    maam::Trace trace("aggregate_forward", maam::AggregateForwardIsa(), g, (branches + 1) * g.Bytes());
    maam::RunAggregateForward(p);
  }
  maam::CheckFinite("AggregateForward", "G", g);
}

MAAM_EXPORT maam::Shape AggregateForwardInferShape(int* ndims, int64_t** shapes, void*) {
  return ShapeAt(ndims, shapes, 1);
}
MAAM_EXPORT maam::TypeId AggregateForwardInferType(std::vector<maam::TypeId> types, void*) { return types[1]; }

// As AggregateForward, for tests -> G and the error that a kernel may have, both float64
MAAM_AOT(AggregateForwardReference) {
  const int branches = call.Count() - 3;
  maam::ExpectBranches("AggregateForwardReference", branches);
  maam::AggregateForward p;
  maam::FillForward(call, branches, 1, &p);
  maam::AggregateForwardReference(p, maam::ReferenceResult(call, branches + 1, p.size),
                                  maam::ReferenceResult(call, branches + 2, p.size));
}

// alpha, dG, A_1..A_N -> d alpha, dA_1..dA_N
MAAM_AOT(AggregateBackward) {
  const int branches = (call.Count() - 3) / 2;
  maam::ExpectBranches("AggregateBackward", branches);
  maam::AggregateBackward p;
  maam::FillBackward(call, branches, &p);
  const int first = 3 + branches;  // of dA_1
  call.ExpectSize(first - 1, "d alpha", branches);
  call.ExpectDType(first - 1, "d alpha", call[0].dtype);
  p.dalpha = call[first - 1].data;
  for (int k = 0; k < branches; ++k) {
    const std::string name = "gradient of branch " + std::to_string(k);
    call.ExpectSameShape(first + k, name, 2, "branch 0");
    call.ExpectDType(first + k, name, p.dtype);
    p.da[k] = call[first + k].data;
  }
  {
    maam::Trace trace("aggregate_backward", maam::AggregateBackwardIsa(), call[1],
                      (2 * branches + 1) * call[1].Bytes());
    maam::RunAggregateBackward(p);
  }
  maam::CheckFinite("AggregateBackward", "d alpha", call[first - 1]);
  for (int k = 0; k < branches; ++k) maam::CheckFinite("AggregateBackward", "dA", call[first + k]);
}

// N is the number of elements of alpha: inference is told shapes, not how many there are.
MAAM_EXPORT std::vector<maam::Shape> AggregateBackwardInferShape(int* ndims, int64_t** shapes, void*) {
  std::vector<maam::Shape> result{ShapeAt(ndims, shapes, 0)};
  int64_t branches = 1;
  for (int64_t extent : result[0]) branches *= extent;
  for (int64_t k = 0; k < branches; ++k) result.push_back(ShapeAt(ndims, shapes, 1));
  return result;
}
MAAM_EXPORT std::vector<maam::TypeId> AggregateBackwardInferType(std::vector<maam::TypeId> types, void*) {
  std::vector<maam::TypeId> result(types.size() - 1, types[1]);
  result[0] = types[0];
  return result;
}

// As AggregateBackward, for tests -> d alpha, all dA_i one after the other, and the errors that a kernel may have in
// them, all float64
MAAM_AOT(AggregateBackwardReference) {
  const int branches = call.Count() - 6;
  maam::ExpectBranches("AggregateBackwardReference", branches);
  maam::AggregateBackward p;
  maam::FillBackward(call, branches, &p);
  const int first = 2 + branches;
  const int64_t all = branches * p.size;
  maam::AggregateBackwardReference(
      p, maam::ReferenceResult(call, first, branches), maam::ReferenceResult(call, first + 1, all),
      maam::ReferenceResult(call, first + 2, branches), maam::ReferenceResult(call, first + 3, all));
}
