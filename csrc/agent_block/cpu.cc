// The portable kernels, and the order in which the passes run.
#define MAAM_ISA portable
#include "agent_block/cpu-inl.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "maam/moments.h"
#include "maam/training.h"

namespace maam {

#define MAAM_KERNEL MAAM_REGISTER_KERNEL
#include "agent_block/kernels.inc"
#undef MAAM_KERNEL

namespace {

// The working memory of one call: tables, then that of each worker.
class Workspace {
 public:
  Workspace(const BlockPlan& plan, BlockPass pass)
      : tables_(plan, pass),
        worker_bytes_(std::max(
            plan.total,
            RoundUp(9 * std::max(plan.p.middle, plan.p.channels) * plan.lanes * int64_t{sizeof(float)}, kCacheLine))),
        workers_(WorkersFor(plan.strips.Count())) {}

  int64_t Bytes() const { return tables_.Bytes() + workers_ * worker_bytes_; }
  const BlockTables& Tables() const { return tables_; }

  template <class F>
  void Run(const Scratch& scratch, int64_t tasks, F&& f) const {
    ParallelForWorkers(workers_, tasks, [&](int64_t worker, int64_t task) {
      f(task, scratch.At(tables_.Bytes() + worker * worker_bytes_));
    });
  }

 private:
  const BlockTables tables_;
  const int64_t worker_bytes_;
  const int64_t workers_;
};

BlockPlan PlanOf(const AgentBlock& p, const AgentBlockSaved& saved) {
  return BlockPlan(p, saved, FloatLanes(AgentBlockIsa()));
}

template <class Kernel>
Kernel* KernelOf(const char* name) {
  return Choose<Kernel>(ChooseVariant(name));
}

// sum x^1 patch = rstd (sum z1 patch - mean sum patch), and sum patch.
void JoinMoments(const BlockPlan& plan) {
  const int64_t taps = plan.first.taps, middle = plan.p.middle, padded = plan.strips.middle;
  const double* statistics = plan.saved.first_statistics;
  for (int64_t tap = 0; tap < taps; ++tap) {
    double* row = plan.saved.moments + tap * (middle + 1);
    double patch = 0;
    for (int64_t g = 0; g < plan.groups; ++g) patch += plan.patch_sums[g * taps + tap];
    row[middle] = patch;
    for (int64_t c = 0; c < middle; ++c) {
      double sum = 0;
      for (int64_t g = 0; g < plan.groups; ++g) sum += plan.taps_sums[(g * (taps + 1) + tap) * padded + c];
      row[c] = statistics[middle + c] * (sum - statistics[c] * patch);
    }
  }
}

// Of a few taps the moments of the patches themselves are the shorter way to those of z1 = W1 patch: mean and variance
// are w . m and w . Cov w, and sum x^1 patch = n rstd Cov w (maam/training.h). At 27 taps that is a tenth of the
// forward's time.
constexpr int64_t kMaxPatchTaps = 75;

MaamInference PatchesOf(const AgentBlock& p) {
  MaamInference patches;
  patches.branches = 1;
  patches.batch = p.batch;
  patches.inputs = p.inputs;
  patches.height = p.height;
  patches.width = p.width;
  patches.x = p.x;
  patches.branch[0].kernel = p.kernel;
  return patches;
}

void MomentsByPatches(const AgentBlockForward& p) {
  const MaamInference patches = PatchesOf(p);
  std::vector<double> measured((p.Taps() + 1) * (p.Taps() + 1));
  MeasurePatches(patches, measured.data());
  const BranchMoments moments(patches, measured.data(), 0);
  const double n = moments.Pixels();
  for (int64_t tap = 0; tap < p.Taps(); ++tap) p.moments[tap * (p.middle + 1) + p.middle] = n * moments.Mean(tap);
  ParallelFor(p.middle, [&](int64_t c) {
    const BranchMoments::Channel channel = moments.Of(p.first_weight + c * p.Taps());
    const double rstd = 1 / std::sqrt(channel.variance + p.first.eps);
    p.first_statistics[c] = channel.mean;
    p.first_statistics[p.middle + c] = rstd;
    const double keep = p.first.momentum;
    p.new_statistics[0][c] = static_cast<float>(keep * p.first.moving_mean[c] + (1 - keep) * channel.mean);
    p.new_statistics[1][c] =
        static_cast<float>(keep * p.first.moving_variance[c] + (1 - keep) * channel.variance * n / (n - 1));
    for (int64_t tap = 0; tap < p.Taps(); ++tap) {
      p.moments[tap * (p.middle + 1) + c] = n * rstd * channel.covariance[tap];
    }
  });
}

// Gradients of the first convolution and its normalisation.
void JoinFirstGradient(const BlockPlan& plan, float* dweight, float* dgamma, float* dbeta) {
  const AgentBlock& p = plan.p;
  const int64_t taps = plan.first.taps, padded = plan.strips.middle;
  const double pixels = static_cast<double>(p.Pixels());
  const auto sum = [&](int64_t row, int64_t c) {
    double all = 0;
    for (int64_t g = 0; g < plan.groups; ++g) all += plan.taps_sums[(g * (taps + 1) + row) * padded + c];
    return all;
  };
  for (int64_t c = 0; c < p.middle; ++c) {
    const double mean = plan.saved.first_statistics[c], rstd = plan.saved.first_statistics[p.middle + c];
    const double beta = sum(taps, c);
    double gamma = -mean * beta;  // sum dY1 z1 is that of W1 and sum dY1 patch
    for (int64_t tap = 0; tap < taps; ++tap) gamma += p.first_weight[c * taps + tap] * sum(tap, c);
    gamma *= rstd;
    for (int64_t tap = 0; tap < taps; ++tap) {
      const double* moments = plan.saved.moments + tap * (p.middle + 1);
      const double centred = sum(tap, c) - (beta * moments[p.middle] + gamma * moments[c]) / pixels;
      dweight[c * taps + tap] = static_cast<float>(p.first.gamma[c] * rstd * centred);
    }
    dgamma[c] = static_cast<float>(gamma);
    dbeta[c] = static_cast<float>(beta);
  }
}

void PackForBackward(const BlockPlan& plan, const Workspace& workspace, const Scratch& scratch) {
  const auto pack = KernelOf<BlockPackKernel>("agent_block_pack");
  const int64_t vectors = plan.strips.middle / plan.lanes;
  workspace.Run(scratch, 2 * vectors, [&](int64_t task, char* memory) {
    pack(plan, task < vectors ? BlockWeights::kFirst : BlockWeights::kTransposed, task % vectors, memory);
  });
}

}  // namespace

Isa AgentBlockIsa() { return ChooseVariant("agent_block_forward").isa; }

int64_t AgentBlockForwardScratch(const AgentBlock& p) { return Workspace(PlanOf(p, {}), BlockPass::kForward).Bytes(); }

int64_t AgentBlockInputGradientScratch(const AgentBlock& p) {
  return Workspace(PlanOf(p, {}), BlockPass::kInputGradient).Bytes();
}

int64_t AgentBlockBackwardScratch(const AgentBlock& p) {
  return Workspace(PlanOf(p, {}), BlockPass::kBackward).Bytes();
}

void RunAgentBlockForward(const AgentBlockForward& p) {
  BlockPlan plan = PlanOf(p, p);
  const Workspace workspace(plan, BlockPass::kForward);
  const Scratch scratch(workspace.Bytes());
  workspace.Tables().Place(scratch.At(0), &plan);
  const auto pack = KernelOf<BlockPackKernel>("agent_block_pack");
  const auto pack_first = [&] {
    workspace.Run(scratch, plan.strips.middle / plan.lanes,
                  [&](int64_t task, char* memory) { pack(plan, BlockWeights::kFirst, task, memory); });
  };
  if (p.Taps() <= kMaxPatchTaps) {
    MomentsByPatches(p);
  } else {
    pack_first();
    const auto moments = KernelOf<BlockTaskKernel>("agent_block_moments");
    workspace.Run(scratch, plan.groups, [&](int64_t group, char* memory) { moments(plan, group, memory); });
    JoinStatistics(plan, p.first, p.middle, plan.strips.middle, p.first_statistics, p.new_statistics[0],
                   p.new_statistics[1]);
    JoinMoments(plan);
  }

  FillNorm(p.first, p.first_statistics, p.middle, plan.strips.middle, &plan.first_norm);
  plan.first.shift = plan.first_norm.shift;
  pack_first();
  workspace.Run(scratch, plan.channels / plan.lanes,
                [&](int64_t task, char* memory) { pack(plan, BlockWeights::kSecond, task, memory); });
  FillSigns(p.second, &plan);
  const auto forward = KernelOf<BlockTaskKernel>("agent_block_forward");
  workspace.Run(scratch, plan.strips.Count(), [&](int64_t strip, char* memory) { forward(plan, strip, memory); });
  JoinStatistics(plan, p.second, p.channels, plan.channels, p.second_statistics, p.new_statistics[2],
                 p.new_statistics[3]);

  FillNorm(p.second, p.second_statistics, p.channels, plan.channels, &plan.norm);
  const auto finish = KernelOf<BlockFinishKernel>("agent_block_finish");
  ParallelFor(p.batch, [&](int64_t image) { finish(plan, image, p.a); });
}

void RunAgentBlockBackward(const AgentBlockBackward& p) {
  BlockPlan plan = PlanOf(p, p);
  const Workspace workspace(plan, BlockPass::kBackward);
  const Scratch scratch(workspace.Bytes());
  workspace.Tables().Place(scratch.At(0), &plan);
  FillNorm(p.first, p.first_statistics, p.middle, plan.strips.middle, &plan.first_norm);
  FillNorm(p.second, p.second_statistics, p.channels, plan.channels, &plan.norm);
  plan.first.shift = plan.first_norm.shift;
  const auto pooled_gradient = KernelOf<BlockPooledKernel>("agent_block_pooled_gradient");
  ParallelFor(p.batch, [&](int64_t image) { pooled_gradient(plan, image, p.da); });
  JoinGradient(&plan, p.gradient[4], p.gradient[5]);

  RotateWeights(plan, p.second_weight);
  PackForBackward(plan, workspace, scratch);
  const auto backward = KernelOf<BlockTaskKernel>("agent_block_backward");
  workspace.Run(scratch, plan.groups, [&](int64_t group, char* memory) { backward(plan, group, memory); });
  JoinFirstGradient(plan, p.gradient[0], p.gradient[1], p.gradient[2]);
  const auto weight_gradient = KernelOf<BlockWeightKernel>("agent_block_weight_gradient");
  ParallelFor(CeilDiv(p.channels, plan.lanes), [&](int64_t task) { weight_gradient(plan, task, p.gradient[3]); });
}

void RunAgentBlockInputGradient(const AgentBlockInputGradient& p) {
  BlockPlan plan = PlanOf(p, p);
  plan.dx = p.dx;
  const Workspace workspace(plan, BlockPass::kInputGradient);
  const Scratch scratch(workspace.Bytes());
  workspace.Tables().Place(scratch.At(0), &plan);
  FillNorm(p.first, p.first_statistics, p.middle, plan.strips.middle, &plan.first_norm);
  FillNorm(p.second, p.second_statistics, p.channels, plan.channels, &plan.norm);
  const double pixels = static_cast<double>(p.Pixels());
  const auto fill = [pixels](int64_t count, int64_t padded, const float* dgamma, const float* dbeta,
                             BatchNormVectors* norm) {
    for (int64_t c = 0; c < padded; ++c) {
      FillGradientNorm(c < count, c < count ? dgamma[c] / pixels : 0, c < count ? dbeta[c] / pixels : 0, c, norm);
    }
  };
  fill(p.middle, plan.strips.middle, p.dgamma[0], p.dbeta[0], &plan.first_norm);
  fill(p.channels, plan.channels, p.dgamma[1], p.dbeta[1], &plan.norm);
  const int64_t taps = plan.first.taps;
  for (int64_t tap = 0; tap < RoundUp(taps, plan.Panel()); ++tap) {
    float* to = plan.by_tap + tap / plan.Panel() * p.middle * plan.Panel() + tap % plan.Panel();
    for (int64_t c = 0; c < p.middle; ++c) to[c * plan.Panel()] = tap < taps ? p.first_weight[c * taps + tap] : 0;
  }
  const auto pooled_gradient = KernelOf<BlockPooledKernel>("agent_block_pooled_gradient");
  ParallelFor(p.batch, [&](int64_t image) { pooled_gradient(plan, image, p.da); });
  RotateWeights(plan, p.second_weight);
  PackForBackward(plan, workspace, scratch);
  const auto kernel = KernelOf<BlockTaskKernel>("agent_block_input_gradient");
  workspace.Run(scratch, p.batch, [&](int64_t image, char* memory) { kernel(plan, image, memory); });
}

}  // namespace maam
