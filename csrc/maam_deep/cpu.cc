// The portable kernels, the choice of the variant and the split over threads.
#define MAAM_ISA portable
#include "maam_deep/cpu-inl.h"

#include <algorithm>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace maam {

#define MAAM_KERNEL MAAM_REGISTER_KERNEL
#include "maam_deep/kernels.inc"
#undef MAAM_KERNEL

namespace {

DeepPlan PlanOf(const MaamDeepInference& p, Isa isa) { return DeepPlan(p, FloatLanes(isa), NumThreads()); }

int64_t WorkersOf(const DeepPlan& plan) {
  return WorkersFor(std::max(plan.strips.Count(), plan.p.batch > 0 ? plan.PackTasks() : 0));
}

int64_t WorkerBytes(const DeepPlan& plan) { return std::max(plan.total, plan.PackBytes()); }

}  // namespace

Isa MaamDeepInferenceIsa() { return ChooseVariant("maam_deep_inference").isa; }

int64_t MaamDeepInferenceScratch(const MaamDeepInference& p) {
  const DeepPlan plan = PlanOf(p, MaamDeepInferenceIsa());
  return DeepTables(plan).Bytes() + WorkersOf(plan) * WorkerBytes(plan);
}

void RunMaamDeepInference(const MaamDeepInference& p) {
  if (p.batch == 0) return;
  const Variant& variant = ChooseVariant("maam_deep_inference");
  const auto pack = Choose<DeepPackKernel>(ChooseVariant("maam_deep_pack"));
  const auto kernel = Choose<DeepStripKernel>(variant);
  DeepPlan plan = PlanOf(p, variant.isa);
  const DeepTables builder(plan);
  const int64_t tables = builder.Bytes();
  const int64_t workers = WorkersOf(plan);
  const int64_t bytes = WorkerBytes(plan);
  const Scratch scratch(tables + workers * bytes);
  builder.Place(scratch.At(0), &plan);
  ParallelForWorkers(workers, plan.PackTasks(),
                     [&](int64_t worker, int64_t task) { pack(plan, task, scratch.At(tables + worker * bytes)); });
  ParallelForWorkers(workers, plan.strips.Count(),
                     [&](int64_t worker, int64_t task) { kernel(plan, task, scratch.At(tables + worker * bytes)); });
}

}  // namespace maam
