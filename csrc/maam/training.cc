// Forward of training: what to compute in which order, on which thread.
#include "maam/training.h"

#include <algorithm>
#include <vector>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "maam/kernels.h"

namespace maam {
namespace {

constexpr int64_t kChannelsATask = 8;

// The branches' convolutions with the statistics of the batch.
class BatchNormalized : public MaamInference {
 public:
  explicit BatchNormalized(const MaamTraining& p) : MaamInference(p), values_(2 * p.branches * p.channels) {
    for (int k = 0; k < p.branches; ++k) {
      branch[k].mean = Mean(k);
      branch[k].variance = Variance(k);
    }
  }
  float* Mean(int k) { return values_.data() + k * channels; }
  float* Variance(int k) { return values_.data() + (branches + k) * channels; }

 private:
  std::vector<float> values_;
};

void UpdateStatistics(const MaamTraining& p, BatchNormalized* batch) {
  for (int k = 0; k < p.branches; ++k) {
    const BranchMoments moments(p, p.moments, k);
    const double keep = p.momentum[k];
    const double unbiased = moments.Pixels() / (moments.Pixels() - 1);
    ParallelFor((p.channels + kChannelsATask - 1) / kChannelsATask, [&](int64_t task) {
      for (int64_t c = task * kChannelsATask; c < std::min(p.channels, (task + 1) * kChannelsATask); ++c) {
        const BranchMoments::Channel channel = moments.Of(p.branch[k].weight + c * moments.Taps());
        batch->Mean(k)[c] = static_cast<float>(channel.mean);
        batch->Variance(k)[c] = static_cast<float>(channel.variance);
        p.new_mean[k][c] = static_cast<float>(keep * p.branch[k].mean[c] + (1 - keep) * channel.mean);
        p.new_variance[k][c] =
            static_cast<float>(keep * p.branch[k].variance[c] + (1 - keep) * channel.variance * unbiased);
      }
    });
  }
}

ReduceTraining Reduction(const MaamTraining& p) {
  ReduceTraining r;
  r.batch = p.batch;
  r.inputs = p.channels;
  r.outputs = p.outputs;
  r.pixels = (p.height / 2) * (p.width / 2);
  r.a[0] = p.g;
  r.weight = p.reduce.weight;
  r.gamma = p.reduce.gamma;
  r.beta = p.reduce.beta;
  r.moving_mean = p.reduce.mean;
  r.moving_variance = p.reduce.variance;
  r.eps = p.reduce.eps;
  r.momentum = p.momentum[p.branches];
  r.f = static_cast<float*>(p.f);
  r.z = p.z;
  r.mean = p.mean;
  r.rstd = p.rstd;
  r.new_moving_mean = p.new_mean[p.branches];
  r.new_moving_variance = p.new_variance[p.branches];
  return r;
}

int WorkersOf(const MaamPlan& plan) { return WorkersFor(plan.p.batch * plan.strips); }

int64_t MixScratch(const MaamPlan& plan) {
  return RoundUp(PlanBuilder(plan, Folded::kBranches).Bytes(), kCacheLine) + WorkersOf(plan) * plan.PlaneBytes();
}

// G and the noted pixels of branches with these statistics.
void Mix(const MaamInference& branches, float* g, uint8_t* pixel) {
  AggregateForward mixture;
  mixture.branches = branches.branches;
  mixture.alpha = branches.alpha;
  double mix[kMaxBranches];
  SoftmaxWeights(mixture, mix);
  MixedBranches to{{}, g, pixel};
  std::copy(mix, mix + branches.branches, to.mix);
  const Variant& variant = ChooseVariant("maam_mix");
  const auto kernel = Choose<MaamMixKernel>(variant);
  MaamPlan plan(branches, FloatLanes(variant.isa), NumThreads());
  const PlanBuilder builder(plan, Folded::kBranches);
  const int64_t tables = RoundUp(builder.Bytes(), kCacheLine);
  const int workers = WorkersOf(plan);
  const Scratch scratch(MixScratch(plan));
  builder.Build(scratch.At(0), &plan);
  // Lanes beyond the last pixel of a row are computed and dropped; they must not hold what slows arithmetic down.
  std::fill_n(scratch.At(tables), workers * plan.PlaneBytes(), char{0});
  ParallelForWorkers(workers, branches.batch * plan.strips, [&](int64_t worker, int64_t task) {
    const int64_t row = task % plan.strips * plan.rows;
    kernel(plan, to, task / plan.strips, row, std::min(plan.rows, plan.pooled_height - row),
           scratch.At(tables + worker * plan.PlaneBytes()));
  });
}

}  // namespace

int64_t MaamTrainingScratch(const MaamTraining& p) {
  const MaamPlan plan(p, FloatLanes(ChooseVariant("maam_mix").isa), NumThreads());
  const int64_t reduction = p.outputs > 0 ? ReduceForwardScratch(Reduction(p)) : 0;
  return std::max({MeasurePatchesScratch(p), MixScratch(plan), reduction});
}

int64_t MaamMixScratch(const MaamInference& p) {
  const MaamPlan plan(p, FloatLanes(ChooseVariant("maam_mix").isa), NumThreads());
  return MixScratch(plan) + PixelElements(p);
}

void RunMaamMix(const MaamInference& p, float* g) {
  const Scratch pixel(PixelElements(p));
  Mix(p, g, reinterpret_cast<uint8_t*>(pixel.At(0)));
}

void RunMaamTraining(const MaamTraining& p) {
  MeasurePatches(p, p.moments);
  BatchNormalized batch(p);
  UpdateStatistics(p, &batch);
  Mix(batch, p.g, p.pixel);
  if (p.outputs > 0) RunReduceTraining(Reduction(p));
}

}  // namespace maam
