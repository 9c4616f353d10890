// MindSpore's entry point: checks, the call, and shape and dtype inference for graphs with dynamic shapes.
#include "maam_int8/aot.h"

#include "core/error.h"
#include "core/trace.h"
#include "maam_int8/plan.h"

namespace maam {

const float* Int8Call::Images(int64_t* batch, int64_t* inputs, int64_t* height, int64_t* width) const {
  const Tensor& x = call_[0];
  call_.ExpectDType(0, "x", DType::kFloat32);
  if (x.shape.size() != 4 || x.shape[1] < 1 || x.shape[2] < 2 || x.shape[3] < 2) {
    Fail(op_, "x", "shape " + x.ShapeText(), "(B, C, H, W) with H and W of at least 2");
  }
  *batch = x.shape[0];
  *inputs = x.shape[1];
  *height = x.shape[2];
  *width = x.shape[3];
  return static_cast<const float*>(x.data);
}

void Int8Call::Input(float* per_step, float* zero) const {
  call_.ExpectDType(1, "input", DType::kFloat32);
  call_.ExpectSize(1, "input", 2);
  const float* values = static_cast<const float*>(call_[1].data);
  if (!(values[0] > 0 && values[0] < 1e30f)) Fail(op_, "1 / step", std::to_string(values[0]), "a positive number");
  if (!(values[1] >= 0 && values[1] <= kMaxActivation) ||
      values[1] != static_cast<float>(static_cast<int>(values[1]))) {
    Fail(op_, "zero", std::to_string(values[1]), "a whole number from 0 to 127");
  }
  *per_step = values[0];
  *zero = values[1];
}

int Int8Call::Branches() const {
  call_.ExpectDType(2, "kernels", DType::kInt32);
  const int64_t branches = call_[2].Size();
  if (branches < kMinBranches || branches > kMaxBranches) Fail(op_, "kernels", std::to_string(branches), "2 to 8");
  return static_cast<int>(branches);
}

int64_t Int8Call::Kernel(int branch) const {
  const int64_t kernel = static_cast<const int32_t*>(call_[2].data)[branch];
  if (kernel % 2 == 0 || kernel < 1 || kernel >= 2 * kKernelSizes) {
    Fail(op_, "kernel of branch " + std::to_string(branch), std::to_string(kernel), "1, 3, 5 or 7");
  }
  return kernel;
}

ConvInt8 Int8Call::Conv(int i, const std::string& name, int64_t outputs, int64_t inputs, int64_t kernel) const {
  const Shape expected{BlocksOf(outputs), PatchBytes(inputs, kernel) / kQuad, kOutputBlock, kQuad};
  call_.ExpectDType(i, name + " weight", DType::kInt8);
  if (call_[i].shape != expected) {
    Fail(op_, name + " weight", "shape " + call_[i].ShapeText(), Tensor{nullptr, DType::kInt8, expected}.ShapeText());
  }
  if (inputs * kernel * kernel > kMaxDepth / kMaxBranches) {
    Fail(op_, name + " weight", std::to_string(inputs * kernel * kernel) + " taps",
         "at most " + std::to_string(kMaxDepth / kMaxBranches));
  }
  call_.ExpectDType(i + 1, name + " bias", DType::kInt32);
  call_.ExpectSize(i + 1, name + " bias", outputs);
  return {kernel, static_cast<const int8_t*>(call_[i].data), static_cast<const int32_t*>(call_[i + 1].data)};
}

const float* Int8Call::Scale(int i, const std::string& name, int64_t outputs) const {
  call_.ExpectDType(i, name, DType::kFloat32);
  call_.ExpectSize(i, name, outputs);
  return static_cast<const float*>(call_[i].data);
}

uint8_t* Int8Call::F(int64_t batch, int64_t height, int64_t width, int64_t outputs) const {
  const int last = call_.Count() - 1;
  const Shape expected{batch, height / 2, width / 2, RoundUp(outputs, kQuad)};
  call_.ExpectDType(last, "F", DType::kUInt8);
  if (call_[last].shape != expected) {
    Fail(op_, "F", "shape " + call_[last].ShapeText(), Tensor{nullptr, DType::kUInt8, expected}.ShapeText());
  }
  return static_cast<uint8_t*>(call_[last].data);
}

Shape Int8FShape(int* ndims, int64_t** shapes, int64_t outputs) {
  const Shape x = ShapeAt(ndims, shapes, 0);
  const auto half = [](int64_t extent) { return extent < 0 ? extent : extent / 2; };
  return {x[0], half(x[2]), half(x[3]), RoundUp(outputs, kQuad)};
}

}  // namespace maam

// x, input (1 / step, zero), kernels, weight and bias of each branch, scale, weight, bias and scale of the 1x1
// convolution -> F
MAAM_AOT_WITH_INTEGERS(MaamInt8) {
  const char* const op = "MaamInt8";
  const maam::Int8Call args(call, op);
  maam::MaamInt8 p;
  p.x = args.Images(&p.batch, &p.inputs, &p.height, &p.width);
  args.Input(&p.per_step, &p.zero);
  p.branches = args.Branches();
  const int scale = 3 + 2 * p.branches;
  if (call.Count() != scale + 5) {
    maam::Fail(op, "parameters", std::to_string(call.Count()), std::to_string(scale + 5));
  }
  p.channels = call[scale].Size();
  p.outputs = call[scale + 3].Size();
  for (int k = 0; k < p.branches; ++k) {
    p.branch[k] = args.Conv(3 + 2 * k, "branch " + std::to_string(k), p.channels, p.inputs, args.Kernel(k));
  }
  p.scale = args.Scale(scale, "scale", p.channels);
  p.reduce = args.Conv(scale + 1, "reduce", p.outputs, p.channels, 1);
  p.reduce_scale = args.Scale(scale + 3, "reduce scale", p.outputs);
  p.f = args.F(p.batch, p.height, p.width, p.outputs);
  maam::Trace trace("maam_int8", maam::MaamInt8Isa(), call[call.Count() - 1], call.Bytes(), maam::MaamInt8Scratch(p));
  maam::RunMaamInt8(p);
}

MAAM_EXPORT maam::Shape MaamInt8InferShape(int* ndims, int64_t** shapes, void*) {
  return maam::Int8FShape(ndims, shapes, shapes[3 + 2 * shapes[2][0] + 3][0]);
}
MAAM_EXPORT maam::TypeId MaamInt8InferType(std::vector<maam::TypeId>, void*) { return maam::kUInt8Type; }
