// MindSpore's entry points of the module without its reduction, which ends at G: a single branch will do.
#include <algorithm>

#include "core/error.h"
#include "core/trace.h"
#include "maam/aot.h"
#include "maam/training.h"

namespace maam {
namespace {

void ExpectMixTraining(const MaamInference& p, const char* op) {
  ExpectTrainable(p, op);
  if (p.batch * p.height * p.width < 2) {
    Fail(op, "x", std::to_string(p.batch) + " images", "at least two pixels a channel in training");
  }
}

Shape WeightAt(const int* ndims, int64_t** shapes, int64_t k) {
  return ShapeAt(ndims, shapes, static_cast<int>(MaamCall::kFirstBranch + 5 * k));
}

}  // namespace
}  // namespace maam

// x, constants (eps of each branch), alpha, then weight, gamma, beta, moving mean and moving variance of each branch
//     -> G
MAAM_AOT(MaamMix) {
  const char* const op = "MaamMix";
  const maam::MaamCall args(call, op, 5, false);
  const int result = call.Count() - 1;
  maam::MaamInference p;
  args.Operands((result - maam::MaamCall::kFirstBranch) / 5, 1, &p);
  float* g = args.Floats(result, "G", maam::PooledShape(p, p.channels));
  {
    maam::Trace trace("maam_mix", maam::MaamInferenceIsa(p), call[result], call.Bytes(), maam::MaamMixScratch(p));
    maam::RunMaamMix(p, g);
  }
  maam::CheckFinite(op, "G", call[result]);
}

MAAM_EXPORT maam::Shape MaamMixInferShape(int* ndims, int64_t** shapes, void*) {
  const maam::Shape x = maam::ShapeAt(ndims, shapes, 0);
  return {x[0], maam::WeightAt(ndims, shapes, 0)[0], maam::HalfExtent(x[2]), maam::HalfExtent(x[3])};
}
MAAM_EXPORT maam::TypeId MaamMixInferType(std::vector<maam::TypeId> types, void*) { return types[0]; }

// x, constants (eps of each branch, then momentum), alpha, then weight, gamma, beta, moving mean and moving variance of
// each branch -> G, moments, pixel, then new moving mean and variance of each branch
MAAM_AOT_WITH_INTEGERS(MaamMixTraining) {
  const char* const op = "MaamMixTraining";
  const maam::MaamCall args(call, op, 5, false);
  maam::MaamTraining p;
  // 3 + 5 N operands, and 3 + 2 N results.
  const int branches = (call.Count() - 6) / 7;
  args.Operands(branches, 2, &p);
  maam::ExpectMixTraining(p, op);
  for (int k = 0; k < branches; ++k) p.momentum[k] = args.Constant(branches + k);
  const int g = args.ConvNormAt(branches);
  p.g = args.Floats(g, "G", maam::PooledShape(p, p.channels));
  p.moments = args.Moments(g + 1, p);
  p.pixel = args.Pixel(g + 2, p);
  args.NewStatistics(g + 3, &p);
  {
    maam::Trace trace("maam_mix_training", maam::MaamInferenceIsa(p), call[g], call.Bytes(),
                      maam::MaamTrainingScratch(p));
    maam::RunMaamTraining(p);
  }
  maam::CheckFinite(op, "G", call[g]);
  for (int i = g + 3; i < call.Count(); ++i) maam::CheckFinite(op, "new moving statistics", call[i]);
}

MAAM_EXPORT std::vector<maam::Shape> MaamMixTrainingInferShape(int* ndims, int64_t** shapes, void*) {
  const maam::Shape x = maam::ShapeAt(ndims, shapes, 0);
  const int64_t branches = maam::BranchesOf(ndims, shapes);
  int64_t kernel = 1;
  for (int64_t k = 0; k < branches; ++k) kernel = std::max(kernel, maam::WeightAt(ndims, shapes, k)[2]);
  const int64_t channels = maam::WeightAt(ndims, shapes, 0)[0];
  const maam::Shape g{x[0], channels, maam::HalfExtent(x[2]), maam::HalfExtent(x[3])};
  const int64_t rows = x[1] < 0 ? x[1] : x[1] * kernel * kernel + 1;
  std::vector<maam::Shape> result{g, {rows, rows}, {branches, g[0], g[1], g[2], g[3]}};
  result.insert(result.end(), 2 * branches, {channels});
  return result;
}
MAAM_EXPORT std::vector<maam::TypeId> MaamMixTrainingInferType(std::vector<maam::TypeId> types, void*) {
  std::vector<maam::TypeId> result{types[0], maam::kFloat64Id, maam::kUInt8Id};
  result.insert(result.end(), 2 * ((types.size() - maam::MaamCall::kFirstBranch) / 5), types[0]);
  return result;
}

// x, constants (as the forward's), alpha, then weight, gamma and beta of each branch, moments, pixel, dG -> d alpha,
// then d weight, d gamma and d beta of each branch
MAAM_AOT_WITH_INTEGERS(MaamMixBackward) {
  const char* const op = "MaamMixBackward";
  const maam::MaamCall args(call, op, 3, false);
  maam::MaamBackward p;
  // 3 + 3 N + 3 operands, and 1 + 3 N results.
  const int branches = (call.Count() - 7) / 6;
  args.Operands(branches, 2, &p);
  maam::ExpectMixTraining(p, op);
  int i = args.ConvNormAt(branches);
  p.moments = args.Moments(i++, p);
  p.pixel = args.Pixel(i++, p);
  const int dg = i++;
  p.dg = args.Floats(dg, "dG", maam::PooledShape(p, p.channels));
  p.dalpha = args.Floats(i++, "d alpha", call[2].shape);
  args.Gradients(i, &p);
  {
    maam::Trace trace("maam_mix_backward", maam::MaamInferenceIsa(p), call[dg], call.Bytes(),
                      maam::MaamBackwardScratch(p));
    maam::RunMaamBackward(p);
  }
  for (i = dg + 1; i < call.Count(); ++i) maam::CheckFinite(op, "a gradient", call[i]);
}

MAAM_EXPORT std::vector<maam::Shape> MaamMixBackwardInferShape(int* ndims, int64_t** shapes, void*) {
  std::vector<maam::Shape> result;
  for (int64_t i = 2; i < maam::MaamCall::kFirstBranch + 3 * maam::BranchesOf(ndims, shapes); ++i) {
    result.push_back(maam::ShapeAt(ndims, shapes, static_cast<int>(i)));
  }
  return result;
}
MAAM_EXPORT std::vector<maam::TypeId> MaamMixBackwardInferType(std::vector<maam::TypeId> types, void*) {
  return std::vector<maam::TypeId>(types.size() - 5, types[0]);  // less x, constants, moments, pixel and dG
}

// x, constants (as the forward's), alpha, then weight, gamma and beta of each branch, moments, pixel, dG, then d gamma
// and d beta of each branch -> dX
MAAM_AOT_WITH_INTEGERS(MaamMixInputGradient) {
  const char* const op = "MaamMixInputGradient";
  const maam::MaamCall args(call, op, 3, false);
  maam::MaamInputGradient p;
  // 3 + 3 N + 3 + 2 N operands, and a result.
  const int branches = (call.Count() - 7) / 5;
  args.Operands(branches, 2, &p);
  maam::ExpectMixTraining(p, op);
  const int dx = args.InputGradient(args.ConvNormAt(branches), &p);
  {
    maam::Trace trace("maam_mix_input_gradient", maam::MaamInferenceIsa(p), call[dx], call.Bytes(),
                      maam::MaamInputGradientScratch(p));
    maam::RunMaamInputGradient(p);
  }
  maam::CheckFinite(op, "dX", call[dx]);
}

MAAM_EXPORT maam::Shape MaamMixInputGradientInferShape(int* ndims, int64_t** shapes, void*) {
  return maam::ShapeAt(ndims, shapes, 0);
}
MAAM_EXPORT maam::TypeId MaamMixInputGradientInferType(std::vector<maam::TypeId> types, void*) { return types[0]; }
