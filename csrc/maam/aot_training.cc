// MindSpore's entry points of training: checks, the calls, and shape and dtype inference for graphs with dynamic
// shapes.
#include <algorithm>

#include "core/error.h"
#include "core/trace.h"
#include "maam/aot.h"
#include "maam/training.h"

namespace maam {

void ExpectTrainable(const MaamInference& p, const char* op) {
  if (PatchTaps(p) > kMaxTrainingTaps) {
    Fail(op, "branches", std::to_string(PatchTaps(p)) + " taps (input channels x kernel area)",
         "at most " + std::to_string(kMaxTrainingTaps) + "; train these branches as separate layers");
  }
}

double* MaamCall::Moments(int i, const MaamInference& p) const {
  call_.ExpectDType(i, "moments", DType::kFloat64);
  ExpectShape(i, "moments", {PatchTaps(p) + 1, PatchTaps(p) + 1});
  return static_cast<double*>(call_[i].data);
}

uint8_t* MaamCall::Pixel(int i, const MaamInference& p) const {
  call_.ExpectDType(i, "pixel", DType::kUInt8);
  ExpectShape(i, "pixel", {p.branches, p.batch, p.channels, p.height / 2, p.width / 2});
  return static_cast<uint8_t*>(call_[i].data);
}

int MaamCall::NewStatistics(int i, MaamTraining* p) const {
  for (int k = 0; k < p->branches + reduces_; ++k) {
    const std::string part = "new moving statistics of " + MaamPart(*p, k);
    const int64_t channels = k < p->branches ? p->channels : p->outputs;
    p->new_mean[k] = Floats(i++, part, {channels});
    p->new_variance[k] = Floats(i++, part, {channels});
  }
  return i;
}

int MaamCall::Gradients(int i, MaamBackward* p) const {
  for (int k = 0; k < p->branches + reduces_; ++k) {
    const std::string part = "gradient of " + MaamPart(*p, k);
    p->dweight[k] = Floats(i++, part + " weight", call_[ConvNormAt(k)].shape);
    p->dgamma[k] = Floats(i++, part + " gamma", call_[ConvNormAt(k) + 1].shape);
    p->dbeta[k] = Floats(i++, part + " beta", call_[ConvNormAt(k) + 1].shape);
  }
  return i;
}

int MaamCall::InputGradient(int i, MaamInputGradient* p) const {
  p->moments = Moments(i++, *p);
  p->pixel = Pixel(i++, *p);
  p->dg = Floats(i++, "dG", PooledShape(*p, p->channels));
  for (int k = 0; k < p->branches; ++k) {
    p->dgamma[k] = Floats(i++, "d gamma", {p->channels});
    p->dbeta[k] = Floats(i++, "d beta", {p->channels});
  }
  p->dx = Floats(i, "dX", call_[0].shape);
  return i;
}

namespace {

// Behind the parameters of each normalisation stand, of the forward's results, what the backward takes.
struct Saved {
  int g, z, mean, rstd, moments, pixel;
  explicit Saved(int first)
      : g(first), z(first + 1), mean(first + 2), rstd(first + 3), moments(first + 4), pixel(first + 5) {}
};
constexpr int kSaved = 6;

void ExpectTraining(const MaamInference& p, const char* op) {
  ExpectTrainable(p, op);
  const int64_t elements = p.batch * (p.height / 2) * (p.width / 2);
  if (elements < 2) {
    Fail(op, "x", std::to_string(elements) + " pooled pixels a channel",
         "at least 2 in training, where the variance is that of the batch");
  }
}

}  // namespace
}  // namespace maam

// x, constants (eps for each branch and the reduction, then momentum), alpha, then weight, gamma, beta, moving mean and
// moving variance of each branch and of the 1x1 convolution
//     -> F, G, Z, mean, rstd, moments, pixel, then new moving mean and variance of each branch and the 1x1 convolution
MAAM_AOT_WITH_INTEGERS(MaamTraining) {
  const char* const op = "MaamTraining";
  const maam::MaamCall args(call, op, 5);
  maam::MaamTraining p;
  // 3 + 5 (N + 1) operands, and 7 + 2 (N + 1) results.
  const int branches = (call.Count() - 10) / 7 - 1;
  args.Operands(branches, 2, &p);
  maam::ExpectTraining(p, op);
  for (int k = 0; k <= branches; ++k) p.momentum[k] = args.Constant(branches + 1 + k);
  const int f = args.ConvNormAt(branches + 1);
  const maam::Saved saved(f + 1);
  p.f = args.Floats(f, "F", maam::PooledShape(p, p.outputs));
  p.g = args.Floats(saved.g, "G", maam::PooledShape(p, p.channels));
  p.z = args.Floats(saved.z, "Z", maam::PooledShape(p, p.outputs));
  p.mean = args.Floats(saved.mean, "mean", {p.outputs});
  p.rstd = args.Floats(saved.rstd, "rstd", {p.outputs});
  p.moments = args.Moments(saved.moments, p);
  p.pixel = args.Pixel(saved.pixel, p);
  args.NewStatistics(saved.pixel + 1, &p);
  {
    maam::Trace trace("maam_training", maam::MaamInferenceIsa(p), call[f], call.Bytes(), maam::MaamTrainingScratch(p));
    maam::RunMaamTraining(p);
  }
  maam::CheckFinite(op, "F", call[f]);
  for (int i = saved.pixel + 1; i < call.Count(); ++i) maam::CheckFinite(op, "new moving statistics", call[i]);
}

MAAM_EXPORT std::vector<maam::Shape> MaamTrainingInferShape(int* ndims, int64_t** shapes, void*) {
  const maam::Shape x = maam::ShapeAt(ndims, shapes, 0);
  const int64_t branches = maam::BranchesOf(ndims, shapes);
  const auto weight = [&](int64_t k) { return maam::ShapeAt(ndims, shapes, maam::MaamCall::kFirstBranch + 5 * k); };
  int64_t kernel = 1;
  for (int64_t k = 0; k < branches; ++k) kernel = std::max(kernel, weight(k)[2]);
  const maam::Shape g{x[0], weight(0)[0], maam::HalfExtent(x[2]), maam::HalfExtent(x[3])};
  const maam::Shape f{x[0], weight(branches)[0], g[2], g[3]};
  const int64_t rows = x[1] < 0 ? x[1] : x[1] * kernel * kernel + 1;
  std::vector<maam::Shape> result{f, g, f, {f[1]}, {f[1]}, {rows, rows}, {branches, g[0], g[1], g[2], g[3]}};
  for (int64_t k = 0; k <= branches; ++k) result.insert(result.end(), 2, {weight(k)[0]});
  return result;
}
MAAM_EXPORT std::vector<maam::TypeId> MaamTrainingInferType(std::vector<maam::TypeId> types, void*) {
  const maam::TypeId data = types[0];
  std::vector<maam::TypeId> result{data, data, data, data, data, maam::kFloat64Id, maam::kUInt8Id};
  const size_t branches = (types.size() - maam::MaamCall::kFirstBranch) / 5 - 1;
  result.insert(result.end(), 2 * (branches + 1), data);
  return result;
}

// x, constants (as the forward's), alpha, then weight, gamma and beta of each branch and of the 1x1 convolution, G, Z,
// mean, rstd, moments, pixel, dF -> d alpha, then d weight, d gamma and d beta of each branch and of the 1x1
// convolution, dG
MAAM_AOT_WITH_INTEGERS(MaamBackward) {
  const char* const op = "MaamBackward";
  const maam::MaamCall args(call, op, 3);
  maam::MaamBackward p;
  // 3 + 3 (N + 1) + 7 operands, and 1 + 3 (N + 1) + 1 results.
  const int branches = (call.Count() - 12) / 6 - 1;
  args.Operands(branches, 2, &p);
  maam::ExpectTraining(p, op);
  const maam::Saved saved(args.ConvNormAt(branches + 1));
  p.g = args.Floats(saved.g, "G", maam::PooledShape(p, p.channels));
  p.z = args.Floats(saved.z, "Z", maam::PooledShape(p, p.outputs));
  p.mean = args.Floats(saved.mean, "mean", {p.outputs});
  p.rstd = args.Floats(saved.rstd, "rstd", {p.outputs});
  p.moments = args.Moments(saved.moments, p);
  p.pixel = args.Pixel(saved.pixel, p);
  const int df = saved.g + maam::kSaved;
  p.df = args.Floats(df, "dF", maam::PooledShape(p, p.outputs));
  int i = df + 1;
  p.dalpha = args.Floats(i++, "d alpha", call[2].shape);
  i = args.Gradients(i, &p);
  p.dg = args.Floats(i, "dG", maam::PooledShape(p, p.channels));
  {
    maam::Trace trace("maam_backward", maam::MaamInferenceIsa(p), call[df], call.Bytes(), maam::MaamBackwardScratch(p));
    maam::RunMaamBackward(p);
  }
  for (i = df + 1; i < call.Count(); ++i) maam::CheckFinite(op, "a gradient", call[i]);
}

MAAM_EXPORT std::vector<maam::Shape> MaamBackwardInferShape(int* ndims, int64_t** shapes, void*) {
  std::vector<maam::Shape> result;
  const int64_t parameters = 3 * (maam::BranchesOf(ndims, shapes) + 1);
  for (int64_t i = 2; i < maam::MaamCall::kFirstBranch + parameters; ++i) {
    result.push_back(maam::ShapeAt(ndims, shapes, static_cast<int>(i)));
  }
  result.push_back(maam::ShapeAt(ndims, shapes, static_cast<int>(maam::MaamCall::kFirstBranch + parameters)));  // G
  return result;
}
MAAM_EXPORT std::vector<maam::TypeId> MaamBackwardInferType(std::vector<maam::TypeId> types, void*) {
  return std::vector<maam::TypeId>(types.size() - 8, types[0]);  // less x, constants and what was saved, but for G
}

// x, constants (as the forward's), alpha, then weight, gamma and beta of each branch and of the 1x1 convolution,
// moments, pixel, dG, then d gamma and d beta of each branch -> dX
MAAM_AOT_WITH_INTEGERS(MaamInputGradient) {
  const char* const op = "MaamInputGradient";
  const maam::MaamCall args(call, op, 3);
  maam::MaamInputGradient p;
  // 3 + 3 (N + 1) + 3 + 2 N operands, and a result.
  const int branches = (call.Count() - 10) / 5;
  args.Operands(branches, 2, &p);
  maam::ExpectTraining(p, op);
  const int dx = args.InputGradient(args.ConvNormAt(branches + 1), &p);
  {
    maam::Trace trace("maam_input_gradient", maam::MaamInferenceIsa(p), call[dx], call.Bytes(),
                      maam::MaamInputGradientScratch(p));
    maam::RunMaamInputGradient(p);
  }
  maam::CheckFinite(op, "dX", call[dx]);
}

MAAM_EXPORT maam::Shape MaamInputGradientInferShape(int* ndims, int64_t** shapes, void*) {
  return maam::ShapeAt(ndims, shapes, 0);
}
MAAM_EXPORT maam::TypeId MaamInputGradientInferType(std::vector<maam::TypeId> types, void*) { return types[0]; }
