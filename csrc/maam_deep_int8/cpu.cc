// The portable kernel, the choice of the variant and the split over threads.
#define MAAM_ISA portable
#include "maam_deep_int8/cpu-inl.h"

#include "core/dispatch.h"
#include "core/parallel.h"

namespace maam {

#define MAAM_KERNEL MAAM_REGISTER_KERNEL
#include "maam_deep_int8/kernels.inc"
#undef MAAM_KERNEL

namespace {

int64_t WorkersOf(const DeepInt8Plan& plan) { return WorkersFor(plan.strips.Count()); }

}  // namespace

Isa MaamDeepInt8Isa() { return ChooseVariant("maam_deep_int8").isa; }

int64_t MaamDeepInt8Scratch(const MaamDeepInt8& p) {
  const DeepInt8Plan plan(p, NumThreads());
  return plan.TableBytes() + WorkersOf(plan) * plan.total;
}

void RunMaamDeepInt8(const MaamDeepInt8& p) {
  const auto kernel = Choose<DeepInt8StripKernel>(ChooseVariant("maam_deep_int8"));
  DeepInt8Plan plan(p, NumThreads());
  const int64_t workers = WorkersOf(plan);
  const int64_t tables = plan.TableBytes();
  const Scratch scratch(tables + workers * plan.total);
  plan.FillTables(scratch.At(0));
  ParallelForWorkers(workers, plan.strips.Count(), [&](int64_t worker, int64_t task) {
    kernel(plan, task, scratch.At(tables + worker * plan.total));
  });
}

}  // namespace maam
