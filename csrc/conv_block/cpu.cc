// The portable kernels, and the order in which the passes run.
#define MAAM_ISA portable
#include "conv_block/cpu-inl.h"

#include <algorithm>
#include <cmath>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace maam {

#define MAAM_KERNEL MAAM_REGISTER_KERNEL
#include "conv_block/kernels.inc"
#undef MAAM_KERNEL

namespace {

template <class Kernel>
Kernel* KernelOf(const char* name) {
  return Choose<Kernel>(ChooseVariant(name));
}

// A plan with its working memory: tables, then that of each worker.
class Call {
 public:
  Call(const ConvBlock& p, ConvPass pass)
      : plan(p, pass, FloatLanes(ConvBlockIsa())), tables_(plan), workers_(WorkersFor(plan.Bundles())) {}

  int64_t Bytes() const { return tables_.Bytes() + workers_ * plan.total; }
  void Allocate() {
    scratch_ = Scratch(Bytes());
    tables_.Place(scratch_.At(0), &plan);
  }
  template <class F>
  void Run(int64_t tasks, F&& f) const {
    ParallelForWorkers(workers_, tasks, [&](int64_t worker, int64_t task) {
      f(task, scratch_.At(tables_.Bytes() + worker * plan.total));
    });
  }
  void Pack(int64_t channels) const {
    const auto pack = KernelOf<ConvPackKernel>("conv_block_pack");
    Run(channels / plan.lanes, [&](int64_t task, char* memory) { pack(plan, task, memory); });
  }

  ConvPlan plan;

 private:
  const ConvTables tables_;
  const int64_t workers_;
  Scratch scratch_{0};
};

}  // namespace

Isa ConvBlockIsa() { return ChooseVariant("conv_block_forward").isa; }

int64_t ConvBlockInferenceScratch(const ConvBlock& p) { return Call(p, ConvPass::kInference).Bytes(); }
int64_t ConvBlockForwardScratch(const ConvBlock& p) { return Call(p, ConvPass::kForward).Bytes(); }
int64_t ConvBlockBackwardScratch(const ConvBlock& p) { return Call(p, ConvPass::kBackward).Bytes(); }

void RunConvBlockInference(const ConvBlockInference& p) {
  if (p.batch == 0) return;
  Call call(p, ConvPass::kInference);
  call.Allocate();
  ConvPlan& plan = call.plan;
  plan.residual = p.residual;
  plan.a = p.a;
  for (int64_t c = 0; c < plan.channels; ++c) {
    const bool exists = c < p.channels;
    const double scale =
        exists ? p.norm.gamma[c] / std::sqrt(static_cast<double>(p.norm.moving_variance[c]) + p.norm.eps) : 0;
    plan.norm.scale[c] = static_cast<float>(scale);
    plan.norm.shift[c] = static_cast<float>(exists ? p.norm.beta[c] - p.norm.moving_mean[c] * scale : 0);
  }
  call.Pack(plan.channels);
  const auto kernel = KernelOf<ConvBundleKernel>("conv_block_inference");
  call.Run(plan.Bundles(), [&](int64_t bundle, char* memory) { kernel(plan, bundle, memory); });
}

void RunConvBlockForward(const ConvBlockForward& p) {
  Call call(p, ConvPass::kForward);
  call.Allocate();
  ConvPlan& plan = call.plan;
  plan.z = p.z;
  plan.pooled = p.pools ? p.pooled : p.z;
  FillSigns(p.norm, &plan);
  call.Pack(plan.channels);
  const auto forward = KernelOf<ConvBundleKernel>("conv_block_forward");
  call.Run(plan.Bundles(), [&](int64_t bundle, char* memory) { forward(plan, bundle, memory); });
  JoinStatistics(plan, p.norm, p.channels, plan.channels, p.statistics, p.new_mean, p.new_variance);
  FillNorm(p.norm, p.statistics, p.channels, plan.channels, &plan.norm);
  const auto finish = KernelOf<ConvImageKernel>("conv_block_finish");
  ParallelFor(p.batch, [&](int64_t image) { finish(plan, image, p.residual, p.a); });
}

void RunConvBlockBackward(const ConvBlockBackward& p) {
  Call call(p, ConvPass::kBackward);
  call.Allocate();
  ConvPlan& plan = call.plan;
  plan.z = p.z;
  plan.pooled = p.pools ? p.pooled : p.z;
  plan.dx = p.dx;
  FillNorm(p.norm, p.statistics, p.channels, plan.channels, &plan.norm);
  const auto result_gradient = KernelOf<ConvImageKernel>("conv_block_result_gradient");
  ParallelFor(p.batch, [&](int64_t image) { result_gradient(plan, image, p.da, nullptr); });
  JoinGradient(&plan, p.dgamma, p.dbeta);
  RotateWeights(plan, p.weight);
  call.Pack(plan.strips.middle);
  const auto backward = KernelOf<ConvBundleKernel>("conv_block_backward");
  call.Run(plan.groups, [&](int64_t group, char* memory) { backward(plan, group, memory); });
  const auto weight_gradient = KernelOf<ConvWeightKernel>("conv_block_weight_gradient");
  ParallelFor(CeilDiv(p.channels, plan.lanes), [&](int64_t task) { weight_gradient(plan, task, p.dweight); });
}

}  // namespace maam
