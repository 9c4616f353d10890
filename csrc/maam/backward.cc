// Backward: what to compute in which order, on which thread. The formulas stand in training.h.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "maam/kernels.h"

namespace maam {
namespace {

int64_t SumsScratch(const MaamInference& p) {
  return WorkersFor(ImageGroups(p)) * SumsPlan(p, FloatLanes(ChooseVariant("maam_sums").isa)).WorkerBytes();
}

ReduceBackward Reduction(const MaamBackward& p) {
  ReduceBackward r;
  r.batch = p.batch;
  r.inputs = p.channels;
  r.outputs = p.outputs;
  r.pixels = (p.height / 2) * (p.width / 2);
  r.a[0] = p.g;
  r.weight = p.reduce.weight;
  r.gamma = p.reduce.gamma;
  r.beta = p.reduce.beta;
  r.df = p.df;
  r.z = p.z;
  r.mean = p.mean;
  r.rstd = p.rstd;
  r.da[0] = p.dg;
  r.dweight = p.dweight[p.branches];
  r.dgamma = p.dgamma[p.branches];
  r.dbeta = p.dbeta[p.branches];
  return r;
}

// S and b of training.h, from X less `center`.
std::vector<double> SumGradients(const MaamBackward& p, const std::vector<float>& center) {
  const Variant& variant = ChooseVariant("maam_sums");
  const auto kernel = Choose<MaamSumsKernel>(variant);
  const SumsPlan plan(p, FloatLanes(variant.isa));
  const int64_t groups = ImageGroups(p);
  const int workers = WorkersFor(groups);
  const Scratch scratch(workers * plan.WorkerBytes());
  const int64_t size = plan.Sums();
  std::vector<double> sums(groups * size);
  const GradientOperands from{center.data(), p.dg, p.pixel};
  ParallelForWorkers(workers, groups, [&](int64_t worker, int64_t g) {
    kernel(plan, from, p.batch * g / groups, p.batch * (g + 1) / groups, scratch.At(worker * plan.WorkerBytes()),
           &sums[g * size]);
  });
  for (int64_t g = 1; g < groups; ++g) {
    for (int64_t i = 0; i < size; ++i) sums[i] += sums[g * size + i];
  }
  sums.resize(size);
  return sums;
}

// Gradients of one branch's parameters; returns <dG, A_k>.
double FinishBranch(const MaamBackward& p, int k, double mix, const std::vector<float>& center, const double* sums) {
  const BranchMoments moments(p, p.moments, k);
  const int64_t taps = moments.Taps();
  const int64_t in_plane = p.branch[k].kernel * p.branch[k].kernel;
  double dot = 0;
  for (int64_t c = 0; c < p.channels; ++c, sums += taps + 1) {
    const float* weight = p.branch[k].weight + c * taps;
    const BranchMoments::Channel conv = moments.Of(weight);
    const double rstd = 1 / std::sqrt(conv.variance + p.branch[k].eps);
    const double gamma = p.branch[k].gamma[c];
    const double b = sums[taps];
    double q = 0;
    for (int64_t t = 0; t < taps; ++t) {
      q += weight[t] * (sums[t] + b * (center[t / in_plane] - moments.Mean(t)));
    }
    q *= rstd;
    dot += gamma * q + static_cast<double>(p.branch[k].beta[c]) * b;
    p.dgamma[k][c] = static_cast<float>(mix * q);
    p.dbeta[k][c] = static_cast<float>(mix * b);
    for (int64_t t = 0; t < taps; ++t) {
      const double centered = sums[t] + b * (center[t / in_plane] - moments.Mean(t));
      p.dweight[k][c * taps + t] = static_cast<float>(mix * gamma * rstd * (centered - q * rstd * conv.covariance[t]));
    }
  }
  return dot;
}

}  // namespace

int64_t MaamBackwardScratch(const MaamBackward& p) {
  return std::max(SumsScratch(p), p.outputs > 0 ? ReduceBackwardScratch(Reduction(p)) : 0);
}

void RunMaamBackward(const MaamBackward& p) {
  if (p.outputs > 0) {
    ReduceBackward reduction = Reduction(p);
    RunReduceBackward(&reduction);
  }
  AggregateForward mixture;
  mixture.branches = p.branches;
  mixture.alpha = p.alpha;
  double mix[kMaxBranches];
  SoftmaxWeights(mixture, mix);
  const std::vector<float> center = ChannelMeans(p, p.moments);
  const std::vector<double> sums = SumGradients(p, center);
  double dots[kMaxBranches];
  ParallelFor(p.branches, [&](int64_t k) {
    dots[k] = FinishBranch(p, static_cast<int>(k), mix[k], center, &sums[SumsRow(p, k, 0)]);
  });
  double mean = 0;
  for (int k = 0; k < p.branches; ++k) mean += mix[k] * dots[k];
  for (int k = 0; k < p.branches; ++k) p.dalpha[k] = static_cast<float>(mix[k] * (dots[k] - mean));
}

}  // namespace maam
