#include "maam/moments.h"

#include <algorithm>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "maam/plan.h"

namespace maam {
namespace {

constexpr int64_t kStagedBytes = 28 << 10;  // of the L1 cache
constexpr int64_t kMomentsLanes = 8;        // doubles of any variant
constexpr int64_t kMomentsBlock = 12;       // whole blocks of 3 and of 4 taps
// Images are summed up in groups, and the groups in order: their number is part of the bits.
constexpr int64_t kMaxGroups = 16;

int64_t Groups(const MaamInference& p) { return std::min(p.batch, kMaxGroups); }

}  // namespace

int64_t LargestKernel(const MaamInference& p) {
  int64_t kernel = 1;
  for (int k = 0; k < p.branches; ++k) kernel = std::max(kernel, p.branch[k].kernel);
  return kernel;
}

int64_t PatchTaps(const MaamInference& p) { return p.inputs * LargestKernel(p) * LargestKernel(p); }

MomentsPlan::MomentsPlan(const MaamInference& p)
    : dtype(p.dtype), x(p.x), inputs(p.inputs), height(p.height), width(p.width), kernel(LargestKernel(p)) {
  // A vector that begins at the last pixel of a row reads as far behind it.
  stride = RoundUp(width + kernel - 1 + kMomentsLanes, kMomentsLanes);
  const int64_t fitting = kStagedBytes / (stride * (inputs + 1) * int64_t{sizeof(double)});
  rows = std::clamp<int64_t>(fitting - (kernel - 1), 1, height);
  plane = (rows + kernel - 1) * stride;
  taps = inputs * kernel * kernel + 1;
  padded = RoundUp(taps, kMomentsBlock);
}

int64_t MomentsPlan::Offset(int64_t tap) const {
  if (tap >= taps - 1) return inputs * plane;
  const int64_t in_plane = tap % (kernel * kernel);
  return tap / (kernel * kernel) * plane + in_plane / kernel * stride + in_plane % kernel;
}

void MeasurePatches(const MaamInference& p, double* moments) {
  const MomentsPlan plan(p);
  const int64_t groups = Groups(p);
  const int workers = WorkersFor(groups);
  const int64_t product_bytes = plan.Products() * int64_t{sizeof(double)};
  const Scratch scratch(MeasurePatchesScratch(p));
  double* products = reinterpret_cast<double*>(scratch.At(0));
  char* staged = scratch.At(groups * product_bytes);
  const auto kernel = Choose<MaamMomentsKernel>(ChooseVariant("maam_moments"));
  ParallelForWorkers(workers, groups, [&](int64_t worker, int64_t g) {
    kernel(plan, p.batch * g / groups, p.batch * (g + 1) / groups, staged + worker * plan.StagedBytes(),
           products + g * plan.Products());
  });
  for (int64_t g = 1; g < groups; ++g) {
    for (int64_t i = 0; i < plan.Products(); ++i) products[i] += products[g * plan.Products() + i];
  }
  const int64_t last = plan.taps - 1;
  const double n = static_cast<double>(p.batch * p.height * p.width);
  for (int64_t t = 0; t < last; ++t) moments[last * plan.taps + t] = products[last * plan.padded + t] / n;
  for (int64_t t = 0; t < last; ++t) {
    for (int64_t u = 0; u <= t; ++u) {
      const double covariance =
          products[t * plan.padded + u] / n - moments[last * plan.taps + t] * moments[last * plan.taps + u];
      moments[t * plan.taps + u] = moments[u * plan.taps + t] = covariance;
    }
    moments[t * plan.taps + last] = moments[last * plan.taps + t];
  }
  moments[last * plan.taps + last] = n;
}

int64_t MeasurePatchesScratch(const MaamInference& p) {
  const MomentsPlan plan(p);
  return Groups(p) * plan.Products() * int64_t{sizeof(double)} + WorkersFor(Groups(p)) * plan.StagedBytes();
}

// The tap in the middle of a kernel meets every pixel once.
std::vector<float> ChannelMeans(const MaamInference& p, const double* moments) {
  const int64_t in_plane = LargestKernel(p) * LargestKernel(p);
  const double* means = moments + PatchTaps(p) * (PatchTaps(p) + 1);
  std::vector<float> result(p.inputs);
  for (int64_t i = 0; i < p.inputs; ++i) result[i] = static_cast<float>(means[i * in_plane + in_plane / 2]);
  return result;
}

BranchMoments::BranchMoments(const MaamInference& p, const double* moments, int branch)
    : moments_(moments), stride_(PatchTaps(p) + 1) {
  const int64_t kernel = p.branch[branch].kernel;
  const int64_t largest = LargestKernel(p);
  const int64_t edge = (largest - kernel) / 2;
  for (int64_t tap = 0; tap < p.inputs * kernel * kernel; ++tap) {
    const int64_t input = tap / (kernel * kernel);
    const int64_t y = tap / kernel % kernel + edge;
    tap_.push_back((input * largest + y) * largest + tap % kernel + edge);
  }
}

BranchMoments::Channel BranchMoments::Of(const float* weight) const {
  Channel channel;
  channel.covariance.resize(tap_.size());
  for (int64_t t = 0; t < Taps(); ++t) {
    const double* row = moments_ + tap_[t] * stride_;
    double sum = 0;
    for (int64_t u = 0; u < Taps(); ++u) sum += static_cast<double>(weight[u]) * row[tap_[u]];
    channel.covariance[t] = sum;
    channel.mean += static_cast<double>(weight[t]) * Mean(t);
    channel.variance += static_cast<double>(weight[t]) * sum;
  }
  // Rounding may leave a little below zero where there is no variance. A NaN passes.
  if (channel.variance < 0) channel.variance = 0;
  return channel;
}

}  // namespace maam
