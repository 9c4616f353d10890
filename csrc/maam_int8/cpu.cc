// The portable kernel, the choice of the variant and the split over threads.
#define MAAM_ISA portable
#include "maam_int8/cpu-inl.h"

#include <algorithm>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace maam {

#define MAAM_KERNEL MAAM_REGISTER_KERNEL
#include "maam_int8/kernels.inc"
#undef MAAM_KERNEL

namespace {

int64_t WorkersOf(const MaamInt8Plan& plan) { return WorkersFor(plan.p.batch * plan.strips); }

}  // namespace

Isa MaamInt8Isa() { return ChooseVariant("maam_int8").isa; }

int64_t MaamInt8Scratch(const MaamInt8& p) {
  const MaamInt8Plan plan(p, NumThreads());
  return plan.TableBytes() + WorkersOf(plan) * plan.total;
}

void RunMaamInt8(const MaamInt8& p) {
  const auto kernel = Choose<MaamInt8StripKernel>(ChooseVariant("maam_int8"));
  MaamInt8Plan plan(p, NumThreads());
  const int64_t workers = WorkersOf(plan);
  const int64_t tables = plan.TableBytes();
  const Scratch scratch(tables + workers * plan.total);
  plan.FillTables(scratch.At(0));
  ParallelForWorkers(workers, p.batch * plan.strips, [&](int64_t worker, int64_t task) {
    const int64_t row = task % plan.strips * plan.rows;
    const int64_t rows = std::min(plan.rows, plan.pooled_height - row);
    kernel(plan, task / plan.strips, row, rows, scratch.At(tables + worker * plan.total));
  });
}

}  // namespace maam
