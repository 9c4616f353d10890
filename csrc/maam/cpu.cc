// The portable kernel, the choice of the variant and the split over threads.
#define MAAM_ISA portable
#include "maam/cpu-inl.h"

#include <algorithm>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace maam {

#define MAAM_KERNEL MAAM_REGISTER_KERNEL
#include "maam/kernels.inc"
#undef MAAM_KERNEL

namespace {

const Variant& VariantOf(const MaamInference& p) {
  return ChooseVariant("maam_inference", InPairs(p) ? Isa::kAvx512Bf16 : Isa::kAvx512);
}

MaamPlan PlanOf(const MaamInference& p, Isa isa) {
  MaamPlan plan(p, FloatLanes(isa), NumThreads());
  plan.by_pairs = isa == Isa::kAvx512Bf16;
  return plan;
}

PlanBuilder BuilderOf(const MaamPlan& plan) {
  return PlanBuilder(plan, plan.by_pairs ? Folded::kPairs : Folded::kModule);
}

int WorkersOf(const MaamPlan& plan) { return WorkersFor(plan.p.batch * plan.strips); }

}  // namespace

double MaamConstant(const double* constants, int i) { return constants[i]; }

Isa MaamInferenceIsa(const MaamInference& p) { return VariantOf(p).isa; }

int64_t MaamInferenceScratch(const MaamInference& p) {
  const MaamPlan plan = PlanOf(p, MaamInferenceIsa(p));
  return RoundUp(BuilderOf(plan).Bytes(), kCacheLine) + WorkersOf(plan) * plan.WorkerBytes();
}

void RunMaamInference(const MaamInference& problem) {
  MaamInference p = problem;
  const Variant& variant = VariantOf(p);
  const auto kernel = Choose<MaamStripKernel>(variant);
  MaamPlan plan = PlanOf(p, variant.isa);
  SingleWeights weights;
  if (!plan.by_pairs) weights.Replace(&p);
  const PlanBuilder builder = BuilderOf(plan);
  const int64_t tables = RoundUp(builder.Bytes(), kCacheLine);
  const int workers = WorkersOf(plan);
  const Scratch scratch(tables + workers * plan.WorkerBytes());
  builder.Build(scratch.At(0), &plan);
  // Lanes beyond the last pixel of a panel are computed and dropped; they must not hold what slows arithmetic down.
  std::fill_n(scratch.At(tables), workers * plan.WorkerBytes(), char{0});
  ParallelForWorkers(workers, p.batch * plan.strips, [&](int64_t worker, int64_t task) {
    const int64_t row = task % plan.strips * plan.rows;
    const int64_t rows = std::min(plan.rows, plan.pooled_height - row);
    kernel(plan, task / plan.strips, row, rows, scratch.At(tables + worker * plan.WorkerBytes()));
  });
}

}  // namespace maam
