// MindSpore's entry point: checks, the call, and shape and dtype inference for graphs with dynamic shapes.
#include "core/aot.h"
#include "core/error.h"
#include "core/trace.h"
#include "maam_deep/maam_deep.h"

namespace maam {
namespace {

constexpr const char* kOp = "MaamDeepInference";
constexpr int kFirstBranch = 3;  // behind x, eps and alpha
constexpr int kPerConvNorm = 5;  // weight, gamma, beta, moving mean, moving variance

const float* Floats(const Tensor& tensor) { return static_cast<const float*>(tensor.data); }

void ExpectShape(const Tensor& tensor, const std::string& name, const std::vector<int64_t>& expected) {
  if (tensor.shape != expected) {
    Fail(kOp, name, "shape " + tensor.ShapeText(), Tensor{nullptr, DType::kFloat32, expected}.ShapeText());
  }
}

// A convolution and its normalisation, the parameters from `first` on.
ConvNorm ConvNormAt(const AotCall& call, int first, const std::string& name, double eps, int64_t outputs,
                    int64_t inputs) {
  const Tensor& weight = call[first];
  const int64_t kernel = weight.shape.size() == 4 ? weight.shape[2] : 0;
  if (kernel % 2 == 0 || kernel > kMaxKernelSize) {
    Fail(kOp, name + " weight", "shape " + weight.ShapeText(), "a square kernel of size 1, 3, 5 or 7");
  }
  ExpectShape(weight, name + " weight", {outputs, inputs, kernel, kernel});
  call.ExpectSingle(first, name + " weight");
  static const char* const names[] = {" gamma", " beta", " moving_mean", " moving_variance"};
  for (int i = 1; i < kPerConvNorm; ++i) {
    call.ExpectDType(first + i, name + names[i - 1], DType::kFloat32);
    call.ExpectSize(first + i, name + names[i - 1], outputs);
  }
  ConvNorm c{kernel,
             eps,
             nullptr,
             Floats(call[first + 1]),
             Floats(call[first + 2]),
             Floats(call[first + 3]),
             Floats(call[first + 4])};
  if (weight.dtype == DType::kFloat32) {
    c.weight = Floats(weight);
  } else {
    c.half = weight.data;
    c.half_dtype = weight.dtype;
  }
  return c;
}

MaamDeepInference ProblemOf(const AotCall& call) {
  MaamDeepInference p;
  p.branches = ((call.Count() - kFirstBranch - 1) / kPerConvNorm - 1) / 2;
  if (p.branches < kMinBranches || p.branches > kMaxBranches) {
    Fail(kOp, "branches", std::to_string(p.branches), "2 to 8");
  }
  const Tensor& x = call[0];
  call.ExpectSingle(0, "x");
  if (x.shape.size() != 4 || x.shape[1] < 1 || x.shape[2] < 2 || x.shape[3] < 2) {
    Fail(kOp, "x", "shape " + x.ShapeText(), "(B, C, H, W) with H and W of at least 2");
  }
  call.ExpectDType(1, "eps", DType::kFloat64);
  call.ExpectSize(1, "eps", 2 * p.branches + 1);
  call.ExpectDType(2, "alpha", DType::kFloat32);
  call.ExpectSize(2, "alpha", p.branches);
  const double* eps = static_cast<const double*>(call[1].data);
  const int last = kFirstBranch + 2 * kPerConvNorm * p.branches;
  for (int i : {kFirstBranch, kFirstBranch + kPerConvNorm, last}) {
    if (call[i].shape.size() != 4) Fail(kOp, "weight", "shape " + call[i].ShapeText(), "four dimensions");
  }
  p.batch = x.shape[0];
  p.inputs = x.shape[1];
  p.height = x.shape[2];
  p.width = x.shape[3];
  p.middle = call[kFirstBranch].shape[0];
  p.channels = call[kFirstBranch + kPerConvNorm].shape[0];
  p.outputs = call[last].shape[0];
  p.dtype = x.dtype;
  p.x = x.data;
  p.alpha = Floats(call[2]);
  for (int k = 0; k < p.branches; ++k) {
    const int at = kFirstBranch + 2 * kPerConvNorm * k;
    const std::string name = "branch " + std::to_string(k);
    p.first[k] = ConvNormAt(call, at, name + " first", eps[2 * k], p.middle, p.inputs);
    p.second[k] = ConvNormAt(call, at + kPerConvNorm, name + " second", eps[2 * k + 1], p.channels, p.middle);
    if (p.second[k].kernel != 3) {
      Fail(kOp, name + " second weight", "shape " + call[at + kPerConvNorm].ShapeText(), "a 3x3 kernel");
    }
  }
  p.reduce = ConvNormAt(call, last, "reduce", eps[2 * p.branches], p.outputs, p.channels);
  if (p.reduce.kernel != 1) Fail(kOp, "reduce weight", "shape " + call[last].ShapeText(), "a 1x1 kernel");
  return p;
}

}  // namespace
}  // namespace maam

// x, eps (one a normalisation, in their order), alpha, then weight, gamma, beta, moving mean and moving variance of the
// two convolutions of each branch and of the 1x1 convolution -> F
MAAM_AOT(MaamDeepInference) {
  maam::MaamDeepInference p = maam::ProblemOf(call);
  const maam::Tensor& f = call[call.Count() - 1];
  call.ExpectDType(call.Count() - 1, "F", p.dtype);
  maam::ExpectShape(f, "F", {p.batch, p.outputs, p.height / 2, p.width / 2});
  p.f = f.data;
  {
    maam::Trace trace("maam_deep_inference", maam::MaamDeepInferenceIsa(), f, call.Bytes(),
                      maam::MaamDeepInferenceScratch(p));
    maam::RunMaamDeepInference(p);
  }
  maam::CheckFinite("MaamDeepInference", "F", f);
}

// The number of branches is that of the elements of alpha: inference is told shapes, not how many there are.
MAAM_EXPORT maam::Shape MaamDeepInferenceInferShape(int* ndims, int64_t** shapes, void*) {
  const maam::Shape x = maam::ShapeAt(ndims, shapes, 0);
  int64_t branches = 1;
  for (int64_t extent : maam::ShapeAt(ndims, shapes, 2)) branches *= extent;
  const int last = static_cast<int>(maam::kFirstBranch + 2 * maam::kPerConvNorm * branches);
  const auto half = [](int64_t extent) { return extent < 0 ? extent : extent / 2; };
  return {x[0], shapes[last][0], half(x[2]), half(x[3])};
}
MAAM_EXPORT maam::TypeId MaamDeepInferenceInferType(std::vector<maam::TypeId> types, void*) { return types[0]; }
