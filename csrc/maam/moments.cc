#include "maam/moments.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/ceil_div.h"
#include "core/dispatch.h"
#include "core/parallel.h"
#include "maam/plan.h"

namespace maam {
namespace {

constexpr int64_t kStagedBytes = 192 << 10;  // of the L2 cache
constexpr int64_t kMomentsStep = 16;         // pixels of two vectors of doubles, of any variant

}  // namespace

int64_t LargestKernel(const MaamInference& p) {
  int64_t kernel = 1;
  for (int k = 0; k < p.branches; ++k) kernel = std::max(kernel, p.branch[k].kernel);
  return kernel;
}

int64_t PatchTaps(const MaamInference& p) { return p.inputs * LargestKernel(p) * LargestKernel(p); }

MomentsPlan::MomentsPlan(const MaamInference& p)
    : dtype(p.dtype),
      x(p.x),
      inputs(p.inputs),
      height(p.height),
      width(p.width),
      kernel(LargestKernel(p)),
      edge(kernel / 2),
      reach(kernel - 1) {
  stride = reach + RoundUp(width, kMomentsStep) + reach;
  const int64_t fitting = kStagedBytes / ((inputs + 1) * stride * int64_t{sizeof(double)});
  rows = std::clamp<int64_t>(fitting - reach, 1, height);
  strips = CeilDiv(height, rows);
  plane = (rows + reach) * stride;
  strips_at_once = std::max<int64_t>(kStagedBytes / (StripDoubles() * int64_t{sizeof(double)}), 1);
  slots = 1 + inputs * Shifts();
  first_of_last = std::max<int64_t>(width - edge, 0);
  std::set<int64_t> ends{0, height};
  for (int64_t i = 1; i <= edge; ++i) ends.insert({std::min(i, height), std::max<int64_t>(height - i, 0)});
  std::copy(ends.begin(), ends.end(), band);
  bands = static_cast<int64_t>(ends.size()) - 1;
}

namespace {

struct Tap {
  int64_t input, y, x;  // y, x: 0 to kernel - 1
};

Tap TapAt(const MomentsPlan& plan, int64_t tap) {
  const int64_t in_plane = plan.kernel * plan.kernel;
  return {tap / in_plane, tap % in_plane / plan.kernel, tap % plan.kernel};
}

// The sum over all pixels of tap `first` times what lies in `slot`, `down` rows below.
double SumOver(const MomentsPlan& plan, const double* sums, const Tap& first, int64_t down, int64_t slot) {
  const int64_t from = first.y - plan.edge, left = first.x - plan.edge;
  double sum = 0;
  for (int64_t i = 0; i < plan.bands; ++i) {
    if (plan.band[i] < from || plan.band[i + 1] > plan.height + from) continue;
    const double* cell = sums + plan.Cell(first.input, down, slot, i);
    sum += cell[0];
    // Columns that the tap does not reach.
    for (int64_t j = 0; j < std::min(left, plan.width); ++j) sum -= cell[1 + j];
    for (int64_t j = 0; j < plan.edge && plan.first_of_last + j < plan.width; ++j) {
      if (plan.first_of_last + j >= plan.width + left) sum -= cell[1 + plan.edge + j];
    }
  }
  return sum;
}

double SumOfProducts(const MomentsPlan& plan, const double* sums, Tap t, Tap u) {
  // The kernel shifts downwards, and along a row to channels up to the first one.
  if (u.y < t.y || (u.y == t.y && u.input > t.input)) std::swap(t, u);
  return SumOver(plan, sums, t, u.y - t.y, plan.Slot(u.input, u.x - t.x));
}

}  // namespace

void MeasurePatches(const MaamInference& p, double* moments) {
  const MomentsPlan plan(p);
  const int64_t groups = ImageGroups(p);
  const int workers = WorkersFor(groups);
  const int64_t sums_bytes = groups * plan.Sums() * int64_t{sizeof(double)};
  const Scratch scratch(sums_bytes + workers * plan.StagedBytes());
  double* sums = reinterpret_cast<double*>(scratch.At(0));
  char* staged = scratch.At(sums_bytes);
  const auto kernel = Choose<MaamMomentsKernel>(ChooseVariant("maam_moments"));
  ParallelForWorkers(workers, groups, [&](int64_t worker, int64_t g) {
    kernel(plan, p.batch * g / groups, p.batch * (g + 1) / groups, staged + worker * plan.StagedBytes(),
           sums + g * plan.Sums());
  });
  for (int64_t g = 1; g < groups; ++g) {
    for (int64_t i = 0; i < plan.Sums(); ++i) sums[i] += sums[g * plan.Sums() + i];
  }
  const int64_t last = PatchTaps(p);
  const int64_t row = last + 1;
  const double n = static_cast<double>(p.batch * p.height * p.width);
  double* mean = moments + last * row;
  for (int64_t t = 0; t < last; ++t) mean[t] = moments[t * row + last] = SumOver(plan, sums, TapAt(plan, t), 0, 0) / n;
  ParallelFor(last, [&](int64_t t) {
    for (int64_t u = 0; u <= t; ++u) {
      const double product = SumOfProducts(plan, sums, TapAt(plan, t), TapAt(plan, u)) / n;
      moments[t * row + u] = moments[u * row + t] = product - mean[t] * mean[u];
    }
  });
  mean[last] = n;
}

int64_t MeasurePatchesScratch(const MaamInference& p) {
  const MomentsPlan plan(p);
  return ImageGroups(p) * plan.Sums() * int64_t{sizeof(double)} + WorkersFor(ImageGroups(p)) * plan.StagedBytes();
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
