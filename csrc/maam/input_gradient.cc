// The gradient of X: what the statistics of the batch add, gathered over all channels, and the sweep over the images.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "maam/kernels.h"

namespace maam {
namespace {

// dC = A D + B + E C for each channel, so that of the patches' gradients A w D is left to the sweep, and the rest is
//     dP = constant + matrix P,  constant = sum B w,  matrix = sum E w w^T.
class InputTerms {
 public:
  explicit InputTerms(const MaamInputGradient& p) : taps_(PatchTaps(p)), matrix_(taps_ * taps_), constant_(taps_) {
    AggregateForward mixture;
    mixture.branches = p.branches;
    mixture.alpha = p.alpha;
    double mix[kMaxBranches];
    SoftmaxWeights(mixture, mix);
    std::vector<double> matrix(matrix_.size()), constant(constant_.size());
    for (int k = 0; k < p.branches; ++k) AddBranch(p, k, mix[k], &matrix, &constant);
    std::copy(matrix.begin(), matrix.end(), matrix_.begin());
    std::copy(constant.begin(), constant.end(), constant_.begin());
  }

  InputOperands Operands(const MaamInputGradient& p) const {
    InputOperands from{LargestKernel(p), matrix_.data(), constant_.data(), {}, p.dg, p.pixel, p.dx};
    for (int k = 0; k < p.branches; ++k) from.weight[k] = weight_[k].data();
    return from;
  }

 private:
  void AddBranch(const MaamInputGradient& p, int k, double mix, std::vector<double>* matrix,
                 std::vector<double>* constant) {
    const BranchMoments moments(p, p.moments, k);
    const int64_t taps = moments.Taps();
    const int64_t row = InputRow(taps);
    weight_[k].resize(p.channels * row);
    for (int64_t c = 0; c < p.channels; ++c) {
      const float* w = p.branch[k].weight + c * taps;
      const BranchMoments::Channel conv = moments.Of(w);
      const double rstd = 1 / std::sqrt(conv.variance + p.branch[k].eps);
      const double scale = static_cast<double>(p.branch[k].gamma[c]) * rstd;
      const double factor = -scale * rstd * p.dgamma[k][c] / moments.Pixels();
      const double offset = -scale * p.dbeta[k][c] / moments.Pixels() - factor * conv.mean;
      for (int64_t t = 0; t < taps; ++t) {
        weight_[k][c * row + t] = static_cast<float>(mix * scale * w[t]);
        (*constant)[moments.Tap(t)] += offset * w[t];
        for (int64_t u = 0; u < taps; ++u) {
          (*matrix)[moments.Tap(t) * taps_ + moments.Tap(u)] += factor * w[t] * w[u];
        }
      }
    }
  }

  const int64_t taps_;
  std::vector<float> matrix_, constant_, weight_[kMaxBranches];
};

// One strip an image: the gradients of neighbouring rows meet in the planes.
MaamPlan WholeImages(const MaamInference& p, Isa isa) { return MaamPlan(p, FloatLanes(isa), 1, p.height * p.width); }

int64_t WorkerBytes(const MaamPlan& plan) { return InputLayout(plan, LargestKernel(plan.p)).total; }

}  // namespace

int64_t MaamInputGradientScratch(const MaamInputGradient& p) {
  const MaamPlan plan = WholeImages(p, ChooseVariant("maam_input").isa);
  return RoundUp(PlanBuilder(plan, Folded::kNothing).Bytes(), kCacheLine) + WorkersFor(p.batch) * WorkerBytes(plan);
}

void RunMaamInputGradient(const MaamInputGradient& p) {
  const Variant& variant = ChooseVariant("maam_input");
  const auto kernel = Choose<MaamInputKernel>(variant);
  MaamPlan plan = WholeImages(p, variant.isa);
  const PlanBuilder builder(plan, Folded::kNothing);
  const int64_t tables = RoundUp(builder.Bytes(), kCacheLine);
  const Scratch scratch(MaamInputGradientScratch(p));
  builder.Build(scratch.At(0), &plan);
  const InputTerms terms(p);
  const InputOperands from = terms.Operands(p);
  ParallelForWorkers(WorkersFor(p.batch), p.batch, [&](int64_t worker, int64_t image) {
    kernel(plan, from, image, scratch.At(tables + worker * WorkerBytes(plan)));
  });
}

}  // namespace maam
