// MindSpore's entry point: checks, the call, and shape and dtype inference for graphs with dynamic shapes.
#include "core/aot.h"
#include "core/error.h"
#include "core/trace.h"
#include "cross_entropy/cross_entropy.h"

namespace maam {
namespace {

constexpr const char* kOp = "CrossEntropy";

CrossEntropy ProblemOf(const AotCall& call) {
  const Tensor& logits = call[2];
  CrossEntropy p;
  p.dtype = logits.dtype;
  if (!IsSingle(p.dtype) && p.dtype != DType::kFloat64) {
    Fail(kOp, "logits", std::string("dtype ") + Name(p.dtype), "float32, float16, bfloat16 or float64");
  }
  if (logits.shape.size() != 2 || logits.shape[1] < 1) {
    Fail(kOp, "logits", "shape " + logits.ShapeText(), "(rows, classes), at least one class");
  }
  p.rows = logits.shape[0];
  p.classes = logits.shape[1];
  call.ExpectSize(0, "label smoothing", 1);
  call.ExpectDType(0, "label smoothing", ParameterDType(p.dtype));
  p.smoothing = p.dtype == DType::kFloat64 ? *static_cast<const double*>(call[0].data)
                                           : static_cast<double>(*static_cast<const float*>(call[0].data));
  call.ExpectSize(1, "ignored label", 1);
  call.ExpectDType(1, "ignored label", DType::kInt32);
  p.ignore = *static_cast<const int32_t*>(call[1].data);
  call.ExpectSize(3, "labels", p.rows);
  call.ExpectDType(3, "labels", DType::kInt32);
  call.ExpectSize(4, "loss", 1);
  call.ExpectDType(4, "loss", ParameterDType(p.dtype));
  call.ExpectSameShape(5, "d logits", 2, "logits");
  call.ExpectDType(5, "d logits", p.dtype);
  p.logits = logits.data;
  p.labels = static_cast<const int32_t*>(call[3].data);
  p.loss = call[4].data;
  p.gradient = call[5].data;
  if (const int64_t row = FirstBadLabel(p); row >= 0) {
    Fail(kOp, "labels", std::to_string(p.labels[row]) + " in row " + std::to_string(row),
         "0 to " + std::to_string(p.classes - 1) + ", or " + std::to_string(p.ignore) + " for a row to ignore");
  }
  return p;
}

}  // namespace
}  // namespace maam

// label smoothing, ignored label, logits (rows, classes), labels (rows) -> loss, d logits
MAAM_AOT_WITH_INTEGERS(CrossEntropy) {
  const maam::CrossEntropy p = maam::ProblemOf(call);
  {
    maam::Trace trace("cross_entropy", maam::CrossEntropyIsa(), call[2],
                      2 * call[2].Bytes() + call[3].Bytes() + call[4].Bytes(), maam::CrossEntropyScratch(p));
    maam::RunCrossEntropy(p);
  }
  maam::CheckFinite("CrossEntropy", "loss", call[4]);
  maam::CheckFinite("CrossEntropy", "d logits", call[5]);
}

// The loss has one dimension: in GRAPH mode MindSpore makes a Python number of a result without, and its gradient 0.
MAAM_EXPORT std::vector<maam::Shape> CrossEntropyInferShape(int* ndims, int64_t** shapes, void*) {
  return {{1}, maam::ShapeAt(ndims, shapes, 2)};
}
MAAM_EXPORT std::vector<maam::TypeId> CrossEntropyInferType(std::vector<maam::TypeId> types, void*) {
  return {types[0], types[2]};
}
