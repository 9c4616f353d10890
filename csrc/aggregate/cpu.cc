// The portable kernel, the choice of the variant and the split over threads.
#define MAAM_ISA portable
#include "aggregate/cpu-inl.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace maam {

#define MAAM_KERNEL MAAM_REGISTER_KERNEL
#include "aggregate/kernels.inc"
#undef MAAM_KERNEL

namespace {

// Elements a task: small enough to balance two threads on a 4 MiB tensor, large enough that a task outweighs its
// hand-over. d alpha is summed task by task, so this number is part of the result's bits.
constexpr int64_t kTask = 32768;

int64_t Tasks(int64_t size) { return (size + kTask - 1) / kTask; }

// Whether results should bypass the cache: measured, streaming stores are slower as long as everything touched fits
// into the last-level cache, and a fifth faster beyond, where a normal store first reads the line it overwrites.
bool ShouldStream(int64_t bytes) { return bytes > LastLevelCacheBytes() + LastLevelCacheBytes() / 4; }

template <class Float>
void Softmax(const Float* alpha, int n, double* weights) {
  const Float largest = *std::max_element(alpha, alpha + n);
  Float total = 0;
  for (int k = 0; k < n; ++k) total += static_cast<Float>(weights[k] = std::exp(alpha[k] - largest));
  for (int k = 0; k < n; ++k) weights[k] = static_cast<Float>(weights[k]) / total;
}

template <class Float>
void WriteAlphaGradient(const AggregateBackward& p, const double* weights, const double* dots) {
  double mean = 0;
  for (int k = 0; k < p.branches; ++k) mean += weights[k] * dots[k];
  for (int k = 0; k < p.branches; ++k) {
    static_cast<Float*>(p.dalpha)[k] = static_cast<Float>(weights[k] * (dots[k] - mean));
  }
}

}  // namespace

void SoftmaxWeights(const AggregateForward& p, double* weights) {
  if (p.dtype == DType::kFloat64) {
    Softmax(static_cast<const double*>(p.alpha), p.branches, weights);
  } else {
    Softmax(static_cast<const float*>(p.alpha), p.branches, weights);
  }
}

Isa AggregateForwardIsa() { return ChooseVariant("aggregate_forward").isa; }
Isa AggregateBackwardIsa() { return ChooseVariant("aggregate_backward").isa; }

void RunAggregateForward(const AggregateForward& p) {
  double weights[kMaxBranches];
  SoftmaxWeights(p, weights);
  const auto kernel = Choose<AggregateForwardKernel>(ChooseVariant("aggregate_forward"));
  const bool stream = ShouldStream((p.branches + 1) * p.size * SizeOf(p.dtype));
  ParallelFor(Tasks(p.size),
              [&](int64_t task) { kernel(p, weights, task * kTask, std::min(p.size, (task + 1) * kTask), stream); });
}

void RunAggregateBackward(const AggregateBackward& p) {
  double weights[kMaxBranches];
  SoftmaxWeights(p, weights);
  const auto kernel = Choose<AggregateBackwardKernel>(ChooseVariant("aggregate_backward"));
  const bool stream = ShouldStream((2 * p.branches + 1) * p.size * SizeOf(p.dtype));
  std::vector<double> partial(Tasks(p.size) * kMaxBranches);
  ParallelFor(Tasks(p.size), [&](int64_t task) {
    kernel(p, weights, task * kTask, std::min(p.size, (task + 1) * kTask), stream, &partial[task * kMaxBranches]);
  });
  double dots[kMaxBranches] = {};
  for (int64_t task = 0; task < Tasks(p.size); ++task) {
    for (int k = 0; k < p.branches; ++k) dots[k] += partial[task * kMaxBranches + k];
  }
  if (p.dtype == DType::kFloat64) {
    WriteAlphaGradient<double>(p, weights, dots);
  } else {
    WriteAlphaGradient<float>(p, weights, dots);
  }
}

}  // namespace maam
