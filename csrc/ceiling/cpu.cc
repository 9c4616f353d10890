// The portable loops, the choice of the variant and the split over threads.
#define MAAM_ISA portable
#include "ceiling/cpu-inl.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/ceil_div.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/parallel.h"

namespace maam {

#define MAAM_KERNEL MAAM_REGISTER_KERNEL
#include "ceiling/kernels.inc"
#undef MAAM_KERNEL

namespace {

constexpr int64_t kTask = 32 * kCeilingBlock;  // as the operators: 128 KiB of every stream

void ExpectStreams(const char* what, int got, int most) {
  if (got < 1 || got > most) Fail("ceiling_bandwidth", what, std::to_string(got), "1 to " + std::to_string(most));
}

void Check(const BandwidthPass& p) {
  ExpectStreams("inputs", p.reads, kMaxCeilingReads);
  ExpectStreams("outputs", p.writes, kMaxCeilingWrites);
  if (p.size % kCeilingBlock != 0) {
    Fail("ceiling_bandwidth", "size", std::to_string(p.size), "a multiple of " + std::to_string(kCeilingBlock));
  }
  for (int k = 0; p.streaming && k < p.writes; ++k) {
    const auto offset = reinterpret_cast<uintptr_t>(p.out[k]) % 64;
    if (offset != 0) {
      Fail("ceiling_bandwidth", "output " + std::to_string(k), "an address " + std::to_string(offset) + " past 64",
           "one aligned to 64 bytes for streaming stores");
    }
  }
}

}  // namespace

void RunBandwidthPass(const BandwidthPass& p) {
  Check(p);
  const auto kernel = Choose<CeilingBandwidthKernel>(ChooseVariant("ceiling_bandwidth"));
  const int64_t blocks = p.size / kCeilingBlock;
  const int64_t share = p.ranges ? CeilDiv(blocks, NumThreads()) * kCeilingBlock : kTask;
  if (share == 0) return;
  ParallelFor(CeilDiv(p.size, share),
              [&](int64_t task) { kernel(p, task * share, std::min(p.size, (task + 1) * share)); });
}

double RunFmaPass() {
  constexpr int64_t kIterations = 65536;  // about 0.1 ms a task: hand-over does not show
  const auto kernel = Choose<CeilingFmaKernel>(ChooseVariant("ceiling_fma"));
  const int64_t tasks = 8 * NumThreads();
  std::vector<float> sinks(tasks);
  std::vector<double> operations(tasks);
  ParallelFor(tasks, [&](int64_t task) { operations[task] = kernel(kIterations, &sinks[task]); });
  double total = 0;
  for (double done : operations) total += done;
  return total;
}

}  // namespace maam
