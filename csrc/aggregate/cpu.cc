// The portable kernel, the choice of the variant and the split over threads.
#define MAAM_ISA portable
#include "aggregate/cpu-inl.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/ceil_div.h"
#include "core/channels.h"
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

int64_t Tasks(int64_t size) { return CeilDiv(size, kTask); }

template <class Float>
void Softmax(const Float* alpha, int n, double* weights) {
  const Float largest = *std::max_element(alpha, alpha + n);
  Float total = 0;
  for (int k = 0; k < n; ++k) total += static_cast<Float>(weights[k] = std::exp(alpha[k] - largest));
  for (int k = 0; k < n; ++k) weights[k] = static_cast<Float>(weights[k]) / total;
}

}  // namespace

void SoftmaxWeights(const AggregateForward& p, double* weights) {
  if (p.dtype == DType::kFloat64) {
    Softmax(static_cast<const double*>(p.alpha), p.branches, weights);
  } else {
    Softmax(static_cast<const float*>(p.alpha), p.branches, weights);
  }
}

void WriteAlphaGradient(DType dtype, int branches, const double* weights, const double* dots, void* dalpha) {
  double mean = 0;
  for (int k = 0; k < branches; ++k) mean += weights[k] * dots[k];
  for (int k = 0; k < branches; ++k) SetChannel(dtype, dalpha, k, weights[k] * (dots[k] - mean));
}

Isa AggregateForwardIsa() { return ChooseVariant("aggregate_forward").isa; }
Isa AggregateBackwardIsa() { return ChooseVariant("aggregate_backward").isa; }

void RunAggregateForward(const AggregateForward& p) {
  double weights[kMaxBranches];
  SoftmaxWeights(p, weights);
  const auto kernel = Choose<AggregateForwardKernel>(ChooseVariant("aggregate_forward"));
  const bool stream = StreamingPays((p.branches + 1) * p.size * SizeOf(p.dtype));
  ParallelFor(Tasks(p.size),
              [&](int64_t task) { kernel(p, weights, task * kTask, std::min(p.size, (task + 1) * kTask), stream); });
}

void RunAggregateBackward(const AggregateBackward& p) {
  double weights[kMaxBranches];
  SoftmaxWeights(p, weights);
  const auto kernel = Choose<AggregateBackwardKernel>(ChooseVariant("aggregate_backward"));
  const bool stream = StreamingPays((2 * p.branches + 1) * p.size * SizeOf(p.dtype));
  std::vector<double> partial(Tasks(p.size) * kMaxBranches);
  ParallelFor(Tasks(p.size), [&](int64_t task) {
    kernel(p, weights, task * kTask, std::min(p.size, (task + 1) * kTask), stream, &partial[task * kMaxBranches]);
  });
  double dots[kMaxBranches] = {};
  for (int64_t task = 0; task < Tasks(p.size); ++task) {
    for (int k = 0; k < p.branches; ++k) dots[k] += partial[task * kMaxBranches + k];
  }
  WriteAlphaGradient(ParameterDType(p.dtype), p.branches, weights, dots, p.dalpha);
}

}  // namespace maam
