// MindSpore's entry point of inference: checks, the call, and shape and dtype inference for graphs with dynamic shapes.
#include "maam/aot.h"

#include "core/error.h"
#include "core/trace.h"

namespace maam {

float* MaamCall::Floats(int i, const std::string& name, const std::vector<int64_t>& shape) const {
  call_.ExpectDType(i, name, DType::kFloat32);
  ExpectShape(i, name, shape);
  return static_cast<float*>(call_[i].data);
}

void* MaamCall::Data(int i, const std::string& name, const std::vector<int64_t>& shape) const {
  call_.ExpectDType(i, name, call_[0].dtype);
  ExpectShape(i, name, shape);
  return call_[i].data;
}

void MaamCall::ExpectSingle(int i, const std::string& name) const {
  halves_ ? call_.ExpectSingle(i, name) : call_.ExpectDType(i, name, DType::kFloat32);
}

void MaamCall::ExpectShape(int i, const std::string& name, const std::vector<int64_t>& shape) const {
  if (call_[i].shape == shape) return;
  Fail(op_, name, "shape " + call_[i].ShapeText(), Tensor{nullptr, DType::kFloat32, shape}.ShapeText());
}

ConvNorm MaamCall::ReadConvNorm(int k, const std::string& name, int64_t outputs, int64_t inputs) const {
  const int first = ConvNormAt(k);
  const Tensor& weight = call_[first];
  const int64_t kernel = weight.shape.size() == 4 ? weight.shape[2] : 0;
  if (kernel % 2 == 0 || kernel > kMaxKernelSize) {
    Fail(op_, name + " weight", "shape " + weight.ShapeText(), "a square kernel of size 1, 3, 5 or 7");
  }
  ConvNorm c;
  c.kernel = kernel;
  ExpectSingle(first, name + " weight");
  ExpectShape(first, name + " weight", {outputs, inputs, kernel, kernel});
  if (weight.dtype == DType::kFloat32) {
    c.weight = static_cast<const float*>(weight.data);
  } else {
    c.half = weight.data;
    c.half_dtype = weight.dtype;
  }
  const float** vectors[] = {&c.gamma, &c.beta, &c.mean, &c.variance};
  static const char* const names[] = {" gamma", " beta", " moving_mean", " moving_variance"};
  for (int i = 1; i < each_; ++i) {
    call_.ExpectSize(first + i, name + names[i - 1], outputs);
    call_.ExpectDType(first + i, name + names[i - 1], DType::kFloat32);
    *vectors[i - 1] = static_cast<const float*>(call_[first + i].data);
  }
  return c;
}

void MaamCall::Operands(int branches, int constants, MaamInference* p) const {
  p->branches = branches;
  const int least = reduces_ ? kMinBranches : 1;
  if (branches < least || branches > kMaxBranches) {
    Fail(op_, "branches", std::to_string(branches), std::to_string(least) + " to 8");
  }
  const Tensor& x = call_[0];
  ExpectSingle(0, "x");
  if (x.shape.size() != 4 || x.shape[1] < 1 || x.shape[2] < 2 || x.shape[3] < 2) {
    Fail(op_, "x", "shape " + x.ShapeText(), "(B, C, H, W) with H and W of at least 2");
  }
  call_.ExpectDType(1, "constants", DType::kFloat64);
  call_.ExpectSize(1, "constants", (branches + reduces_) * constants);
  call_.ExpectDType(2, "alpha", DType::kFloat32);
  call_.ExpectSize(2, "alpha", branches);
  for (int k : {0, reduces_ ? branches : 0}) {
    const Tensor& weight = call_[ConvNormAt(k)];
    if (weight.shape.size() != 4) Fail(op_, "weight", "shape " + weight.ShapeText(), "four dimensions");
  }
  p->batch = x.shape[0];
  p->inputs = x.shape[1];
  p->height = x.shape[2];
  p->width = x.shape[3];
  p->channels = call_[ConvNormAt(0)].shape[0];
  p->outputs = reduces_ ? call_[ConvNormAt(branches)].shape[0] : 0;
  p->dtype = x.dtype;
  p->x = x.data;
  p->constants = static_cast<const double*>(call_[1].data);
  p->stream = call_.Stream();
  p->alpha = static_cast<const float*>(call_[2].data);
  for (int k = 0; k < branches; ++k) {
    p->branch[k] = ReadConvNorm(k, MaamPart(*p, k), p->channels, p->inputs);
    p->branch[k].eps = Constant(k);
  }
  if (!reduces_) return;
  p->reduce = ReadConvNorm(branches, MaamPart(*p, branches), p->outputs, p->channels);
  p->reduce.eps = Constant(branches);
  if (p->reduce.kernel != 1) {
    Fail(op_, "reduce weight", "shape " + call_[ConvNormAt(branches)].ShapeText(), "a 1x1 kernel");
  }
}

std::string MaamPart(const MaamInference& p, int k) {
  return k < p.branches ? "branch " + std::to_string(k) : "reduce";
}

int64_t BranchesOf(const int* ndims, int64_t** shapes) {
  int64_t branches = 1;
  for (int64_t extent : ShapeAt(ndims, shapes, 2)) branches *= extent;
  return branches;
}

}  // namespace maam

// x, constants (eps for each branch and the reduction), alpha, then weight, gamma, beta, moving mean and moving
// variance of each branch and of the 1x1 convolution -> F
MAAM_AOT(MaamInference) {
  const char* const op = "MaamInference";
  const maam::MaamCall args(call, op, 5, true, true);
  const int result = call.Count() - 1;
  maam::MaamInference p;
  args.Operands((result - args.ConvNormAt(1)) / 5, 1, &p);
  p.f = args.Data(result, "F", {p.batch, p.outputs, p.height / 2, p.width / 2});
  {
    maam::Trace trace("maam_inference", maam::MaamInferenceIsa(p), call[result], call.Bytes(),
                      maam::MaamInferenceScratch(p));
    maam::RunMaamInference(p);
  }
  maam::CheckFinite(op, "F", call[result]);
}

MAAM_EXPORT maam::Shape MaamInferenceInferShape(int* ndims, int64_t** shapes, void*) {
  const maam::Shape x = maam::ShapeAt(ndims, shapes, 0);
  const int64_t last = maam::MaamCall::kFirstBranch + 5 * maam::BranchesOf(ndims, shapes);
  return {x[0], shapes[last][0], maam::HalfExtent(x[2]), maam::HalfExtent(x[3])};
}
MAAM_EXPORT maam::TypeId MaamInferenceInferType(std::vector<maam::TypeId> types, void*) { return types[0]; }
