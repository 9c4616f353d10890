// MindSpore's entry point: checks, the call, and shape and dtype inference for graphs with dynamic shapes.
#include "maam_int8/aot.h"
#include "core/error.h"
#include "core/trace.h"
#include "maam_deep_int8/plan.h"

namespace maam {
namespace {

constexpr int kPerBranch = 5;

const int32_t* Second(const AotCall& call, const char* op, int i, const std::string& name, const MaamDeepInt8& p) {
  const Shape expected{BlocksOf(p.channels), kWinogradFrequencies, RoundUp(p.middle, kQuad) / 2, kOutputBlock};
  call.ExpectDType(i, name, DType::kInt32);
  if (call[i].shape != expected) {
    Fail(op, name, "shape " + call[i].ShapeText(), Tensor{nullptr, DType::kInt32, expected}.ShapeText());
  }
  return static_cast<const int32_t*>(call[i].data);
}

}  // namespace
}  // namespace maam

// x, input (1 / step, zero), kernels; of each branch weight, bias and scale of the first convolution, weight and bias
// of the second; scale, weight, bias and scale of the 1x1 convolution -> F
MAAM_AOT_WITH_INTEGERS(MaamDeepInt8) {
  const char* const op = "MaamDeepInt8";
  const maam::Int8Call args(call, op);
  maam::MaamDeepInt8 p;
  p.x = args.Images(&p.batch, &p.inputs, &p.height, &p.width);
  args.Input(&p.per_step, &p.zero);
  p.branches = args.Branches();
  const int scale = 3 + maam::kPerBranch * p.branches;
  if (call.Count() != scale + 5) {
    maam::Fail(op, "parameters", std::to_string(call.Count()), std::to_string(scale + 5));
  }
  p.middle = call[5].Size();
  p.channels = call[scale].Size();
  p.outputs = call[scale + 3].Size();
  if (p.middle > maam::kMaxMiddle) {
    maam::Fail(op, "channels between the convolutions", std::to_string(p.middle),
               "at most " + std::to_string(maam::kMaxMiddle));
  }
  for (int k = 0; k < p.branches; ++k) {
    const int first = 3 + maam::kPerBranch * k;
    const std::string name = "branch " + std::to_string(k);
    p.first[k] = args.Conv(first, name + " first", p.middle, p.inputs, args.Kernel(k));
    p.first_scale[k] = args.Scale(first + 2, name + " first scale", p.middle);
    p.second[k] = maam::Second(call, op, first + 3, name + " second weight", p);
    call.ExpectDType(first + 4, name + " second bias", maam::DType::kInt32);
    call.ExpectSize(first + 4, name + " second bias", p.channels);
    p.second_bias[k] = static_cast<const int32_t*>(call[first + 4].data);
  }
  p.scale = args.Scale(scale, "scale", p.channels);
  p.reduce = args.Conv(scale + 1, "reduce", p.outputs, p.channels, 1);
  p.reduce_scale = args.Scale(scale + 3, "reduce scale", p.outputs);
  p.f = args.F(p.batch, p.height, p.width, p.outputs);
  maam::Trace trace("maam_deep_int8", maam::MaamDeepInt8Isa(), call[call.Count() - 1], call.Bytes(),
                    maam::MaamDeepInt8Scratch(p));
  maam::RunMaamDeepInt8(p);
}

MAAM_EXPORT maam::Shape MaamDeepInt8InferShape(int* ndims, int64_t** shapes, void*) {
  return maam::Int8FShape(ndims, shapes, shapes[3 + maam::kPerBranch * shapes[2][0] + 3][0]);
}
MAAM_EXPORT maam::TypeId MaamDeepInt8InferType(std::vector<maam::TypeId>, void*) { return maam::kUInt8Type; }
