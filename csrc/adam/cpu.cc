// The portable kernel, the choice of the variant and the split over threads.
#define MAAM_ISA portable
#include "adam/cpu-inl.h"

#include <algorithm>

#include "core/ceil_div.h"
#include "core/dispatch.h"
#include "core/parallel.h"

namespace maam {

#define MAAM_KERNEL MAAM_REGISTER_KERNEL
#include "adam/kernels.inc"
#undef MAAM_KERNEL

namespace {

// Elements a task takes. Parameters stand in a row, so that the many small ones of a net share tasks.
constexpr int64_t kTask = 65536;

}  // namespace

Isa AdamUpdateIsa() { return ChooseVariant("adam_update").isa; }

void RunAdamUpdate(const AdamUpdate& p) {
  const auto kernel = Choose<AdamUpdateKernel>(ChooseVariant("adam_update"));
  std::vector<int64_t> starts{0};
  for (const AdamParameter& parameter : p.parameters) starts.push_back(starts.back() + parameter.size);
  ParallelFor(CeilDiv(starts.back(), kTask), [&](int64_t task) {
    const int64_t end = std::min(starts.back(), (task + 1) * kTask);
    int64_t at = task * kTask;
    auto i = std::upper_bound(starts.begin(), starts.end(), at) - starts.begin() - 1;
    for (; at < end; ++i) {
      const int64_t stop = std::min(end, starts[i + 1]);
      if (at < stop) kernel(p, p.parameters[i], at - starts[i], stop - starts[i]);
      at = stop;
    }
  });
}

}  // namespace maam
