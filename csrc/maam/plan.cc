#include "maam/plan.h"

#include <algorithm>
#include <cmath>

#include "core/ceil_div.h"

namespace maam {
namespace {

int64_t FloorHalf(int64_t x) { return x >= 0 ? x / 2 : -((1 - x) / 2); }

// A normalisation by moving statistics as y = scale x + shift.
struct Affine {
  float scale, shift;

  Affine(const ConvNorm& c, int64_t channel, double factor) {
    const double exact = c.gamma[channel] / std::sqrt(static_cast<double>(c.variance[channel]) + c.eps);
    scale = static_cast<float>(factor * exact);
    shift = static_cast<float>(factor * (c.beta[channel] - c.mean[channel] * exact));
  }
};

}  // namespace

bool InPairs(const MaamInference& p) {
  const auto paired = [](const ConvNorm& c) { return c.half != nullptr && c.half_dtype == DType::kBFloat16; };
  return p.dtype == DType::kBFloat16 && paired(p.reduce) && std::all_of(p.branch, p.branch + p.branches, paired);
}

void SingleWeights::Replace(MaamInference* p) {
  for (int k = 0; k <= p->branches; ++k) {
    ConvNorm& c = k < p->branches ? p->branch[k] : p->reduce;
    if (c.half == nullptr) continue;
    const int64_t inputs = k < p->branches ? p->inputs * c.kernel * c.kernel : p->channels;
    std::vector<float>& copy = copies_.emplace_back((k < p->branches ? p->channels : p->outputs) * inputs);
    WithSingleType(c.half_dtype, [&]<class T>(T*) {
      const T* from = static_cast<const T*>(c.half);
      for (size_t i = 0; i < copy.size(); ++i) copy[i] = ToFloat(from[i]);
    });
    c.weight = copy.data();
  }
}

// The arithmetic of a pixel does not depend on the strip it lies in, so strips may follow the number of threads.
MaamPlan::MaamPlan(const MaamInference& problem, int64_t lanes, int threads, int64_t strip_pixels)
    : p(problem), pooled_height(p.height / 2), pooled_width(p.width / 2), lanes_(lanes) {
  rows = std::clamp<int64_t>(strip_pixels / pooled_width, 1, pooled_height);
  while (rows > 1 && p.batch * CeilDiv(pooled_height, rows) < threads) rows = CeilDiv(rows, 2);
  strips = CeilDiv(pooled_height, rows);
  int64_t padding = 0;
  for (int k = 0; k < p.branches; ++k) padding = std::max(padding, p.branch[k].kernel / 2);
  border = (padding + 1) / 2;
  // The zeros behind a row stand in front of the next one too. Behind an even plane's row of an odd image there is one
  // column more that taps reach but no pixel is pooled from.
  const int64_t tight = pooled_width + std::max(border, p.width % 2 + padding / 2);
  const int64_t vectors_by_rows = rows * CeilDiv(pooled_width, lanes);
  by_rows_ = vectors_by_rows <= CeilDiv(rows * tight, lanes);
  stride = by_rows_ ? RoundUp(tight, lanes) : tight;
  plane = RoundUp(Origin() + (rows + border) * stride + border + kMaxLanes, kMaxLanes);
  columns = RoundUp(rows * pooled_width, kMaxLanes);
  groups = CeilDiv(p.channels, kGroup);
}

int64_t MaamPlan::VectorsOf(int64_t strip_rows) const {
  return by_rows_ ? strip_rows * CeilDiv(pooled_width, lanes_) : CeilDiv(strip_rows * stride, lanes_);
}

int MaamPlan::PatchOwner(int k) const {
  int owner = 0;
  while (p.branch[owner].kernel != p.branch[k].kernel) ++owner;
  return owner;
}

int64_t MaamPlan::PatchesBefore(int k) const {
  int64_t patches = 0;
  for (int i = 0; i < k; ++i) {
    if (PatchOwner(i) == i) patches += PairsOf(p.inputs * p.branch[i].kernel * p.branch[i].kernel) * kPool * lanes_;
  }
  return patches;
}

PlanBuilder::PlanBuilder(const MaamPlan& plan, Folded folded) : plan_(plan), folded_(folded) {
  const MaamInference& p = plan.p;
  constexpr int64_t kFloat = sizeof(float);
  for (int k = 0; k < p.branches; ++k) {
    const int64_t taps = p.inputs * p.branch[k].kernel * p.branch[k].kernel;
    branch_offset_[k] = layout_.Take(taps * kPool * int64_t{sizeof(int64_t)});
    if (folded == Folded::kNothing) continue;
    const int64_t depth = folded == Folded::kPairs ? PairsOf(taps) : taps;
    const int64_t padded = folded == Folded::kPairs ? plan.groups * kGroup : plan.PaddedChannels();
    branch_weight_[k] = layout_.Take(padded * depth * kFloat);
    branch_shift_[k] = layout_.Take(padded * kFloat);
    const bool by_points = folded == Folded::kModule && p.branch[k].kernel == 3;
    branch_points_[k] = by_points ? layout_.Take(plan.ChannelGroups() * plan.PointWeights() * kFloat) : -1;
    branch_scale_[k] = folded == Folded::kPairs ? layout_.Take(plan.groups * kGroup * kFloat) : -1;
  }
  if (folded == Folded::kPairs) {
    weight_ = layout_.Take(p.outputs * PairsOf(p.channels) * kFloat);
    scale_ = layout_.Take(p.outputs * kFloat);
    shift_ = layout_.Take(p.outputs * kFloat);
  }
  if (folded == Folded::kModule) {
    weight_ = layout_.Take(p.outputs * p.channels * kFloat);
    shift_ = layout_.Take(p.outputs * kFloat);
  }
  vector_ = layout_.Take(plan.VectorsOf(plan.rows) * int64_t{sizeof(CellVector)});
  run_ = layout_.Take(plan.MaxRuns() * int64_t{sizeof(CellRun)});
}

void PlanBuilder::Build(char* memory, MaamPlan* plan) const {
  const MaamInference& p = plan_.p;
  const auto floats = [&](int64_t offset) { return reinterpret_cast<float*>(memory + offset); };
  AggregateForward mixture;
  mixture.branches = p.branches;
  mixture.alpha = p.alpha;
  double mix[kMaxBranches];
  SoftmaxWeights(mixture, mix);
  for (int k = 0; k < p.branches; ++k) {
    int64_t* offset = reinterpret_cast<int64_t*>(memory + branch_offset_[k]);
    FillOffsets(k, offset);
    plan->branch[k] = {p.inputs * p.branch[k].kernel * p.branch[k].kernel, nullptr, nullptr, nullptr, offset, {}};
    if (folded_ == Folded::kPairs) PackBranch(k, mix[k], memory, &plan->branch[k]);
    if (folded_ == Folded::kPairs || folded_ == Folded::kNothing) continue;
    FoldBranch(k, folded_ == Folded::kModule ? mix[k] : 1, floats(branch_weight_[k]), floats(branch_shift_[k]));
    plan->branch[k].weight = floats(branch_weight_[k]);
    plan->branch[k].shift = floats(branch_shift_[k]);
    if (branch_points_[k] >= 0 && FoldPoints(k, mix[k], floats(branch_points_[k]))) {
      plan->branch[k].points = floats(branch_points_[k]);
    }
  }
  if (folded_ == Folded::kPairs) PackReduction(memory, plan);
  if (folded_ == Folded::kModule) FoldReduction(floats(weight_), floats(shift_), plan);
  CellVector* vector = reinterpret_cast<CellVector*>(memory + vector_);
  CellRun* run = reinterpret_cast<CellRun*>(memory + run_);
  FillVectors(vector, run);
  plan->vector = vector;
  plan->run = run;
}

// The i-th pair of `depth` weights, behind whose last is a zero; with their signs changed, or not.
static uint32_t PairAt(const BFloat16* weight, int64_t depth, int64_t i, bool negative) {
  const uint32_t first = weight[2 * i].bits;
  const uint32_t second = 2 * i + 1 < depth ? weight[2 * i + 1].bits : 0;
  return (first | second << 16) ^ (negative ? 0x80008000u : 0);
}

void PlanBuilder::PackReduction(char* memory, MaamPlan* plan) const {
  const MaamInference& p = plan_.p;
  const int64_t pairs = PairsOf(p.channels);
  uint32_t* weight = reinterpret_cast<uint32_t*>(memory + weight_);
  float* scale = reinterpret_cast<float*>(memory + scale_);
  float* shift = reinterpret_cast<float*>(memory + shift_);
  for (int64_t o = 0; o < p.outputs; ++o) {
    const Affine affine(p.reduce, o, 1);
    scale[o] = affine.scale;
    shift[o] = affine.shift;
    const BFloat16* from = static_cast<const BFloat16*>(p.reduce.half) + o * p.channels;
    for (int64_t i = 0; i < pairs; ++i) weight[o * pairs + i] = PairAt(from, p.channels, i, false);
  }
  plan->pairs = {weight, scale};
  plan->shift = shift;
}

// The sign of a scale goes into the weights, whose products are pooled before they are scaled.
void PlanBuilder::PackBranch(int k, double mix, char* memory, FoldedBranch* branch) const {
  const MaamInference& p = plan_.p;
  const int64_t pairs = PairsOf(branch->taps);
  uint32_t* weight = reinterpret_cast<uint32_t*>(memory + branch_weight_[k]);
  float* scale = reinterpret_cast<float*>(memory + branch_scale_[k]);
  float* shift = reinterpret_cast<float*>(memory + branch_shift_[k]);
  std::fill_n(weight, plan_.groups * pairs * kGroup, 0u);
  std::fill_n(scale, plan_.groups * kGroup, 0.0f);
  std::fill_n(shift, plan_.groups * kGroup, 0.0f);
  for (int64_t c = 0; c < p.channels; ++c) {
    const Affine affine(p.branch[k], c, mix);
    scale[c] = std::abs(affine.scale);
    shift[c] = affine.shift;
    const BFloat16* from = static_cast<const BFloat16*>(p.branch[k].half) + c * branch->taps;
    uint32_t* to = weight + c / kGroup * pairs * kGroup + c % kGroup;
    for (int64_t i = 0; i < pairs; ++i) to[i * kGroup] = PairAt(from, branch->taps, i, affine.scale < 0);
  }
  const int owner = plan_.PatchOwner(k);
  branch->shift = shift;
  branch->pairs = {weight, scale, plan_.PatchesBefore(owner), owner == k};
}

void PlanBuilder::FoldReduction(float* weight, float* shift, MaamPlan* plan) const {
  const MaamInference& p = plan_.p;
  for (int64_t o = 0; o < p.outputs; ++o) {
    const Affine affine(p.reduce, o, 1);
    shift[o] = affine.shift;
    for (int64_t c = 0; c < p.channels; ++c) {
      weight[o * p.channels + c] = p.reduce.weight[o * p.channels + c] * affine.scale;
    }
  }
  plan->weight = weight;
  plan->shift = shift;
}

void PlanBuilder::FoldBranch(int k, double mix, float* weight, float* shift) const {
  const MaamInference& p = plan_.p;
  const ConvNorm& branch = p.branch[k];
  const int64_t taps = p.inputs * branch.kernel * branch.kernel;
  const int64_t together = plan_.ChannelsAtOnce();
  std::fill_n(weight, plan_.PaddedChannels() * taps, 0.0f);
  std::fill_n(shift, plan_.PaddedChannels(), 0.0f);
  for (int64_t c = 0; c < p.channels; ++c) {
    const Affine affine(branch, c, mix);
    shift[c] = affine.shift;
    float* to = weight + c / together * taps * together + c % together;
    for (int64_t t = 0; t < taps; ++t) to[t * together] = branch.weight[c * taps + t] * affine.scale;
  }
}

// The transform of a row of three weights, at the points 0, 1, -1 and infinity.
static void ToPoints(const float* g, int64_t step, float* to, int64_t to_step) {
  const float g0 = g[0], g1 = g[step], g2 = g[2 * step];
  to[0] = g0;
  to[to_step] = 0.5f * (g0 + g2 + g1);
  to[2 * to_step] = 0.5f * (g0 + g2 - g1);
  to[3 * to_step] = g2;
}

// Where point (i, j) stands among those of a channel: for each i first those with j of 1 and 2, of all inputs, then
// those with j of 0 and 3.
static int64_t PointAt(int i, int j, int64_t input, int64_t inputs) {
  const bool inner = j == 1 || j == 2;
  return ((i * 2 + !inner) * inputs + input) * 2 + (inner ? j - 1 : j / 3);
}

// Returns whether the weights are moderate.
bool PlanBuilder::FoldPoints(int k, double mix, float* points) const {
  const MaamInference& p = plan_.p;
  const int64_t together = plan_.ChannelsAtOnce();
  std::fill_n(points, plan_.ChannelGroups() * plan_.PointWeights(), 0.0f);
  bool moderate = true;
  for (int64_t c = 0; c < p.channels; ++c) {
    const Affine affine(p.branch[k], c, mix);
    float* to = points + c / together * plan_.PointWeights() + c % together;
    for (int64_t input = 0; input < p.inputs; ++input) {
      float folded[9], rows[12], both[16];
      for (int t = 0; t < 9; ++t) {
        folded[t] = p.branch[k].weight[(c * p.inputs + input) * 9 + t] * affine.scale;
        moderate = moderate && std::abs(folded[t]) < kModerate;
      }
      for (int i = 0; i < 3; ++i) ToPoints(folded + 3 * i, 1, rows + 4 * i, 1);
      for (int j = 0; j < 4; ++j) ToPoints(rows + j, 4, both + j, 4);
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) to[PointAt(i, j, input, p.inputs) * together] = both[4 * i + j];
      }
    }
  }
  return moderate;
}

void PlanBuilder::FillOffsets(int k, int64_t* offset) const {
  const int64_t kernel = plan_.p.branch[k].kernel;
  for (int64_t channel = 0; channel < plan_.p.inputs; ++channel) {
    for (int64_t tap = 0; tap < kernel * kernel; ++tap) {
      for (int64_t pixel = 0; pixel < kPool; ++pixel) {
        const int64_t y = pixel / 2 + tap / kernel - kernel / 2;
        const int64_t x = pixel % 2 + tap % kernel - kernel / 2;
        const int64_t plane = (channel * 2 + (y & 1)) * 2 + (x & 1);
        *offset++ = plane * plan_.plane + FloorHalf(y) * plan_.stride + FloorHalf(x);
      }
    }
  }
}

void PlanBuilder::FillVectors(CellVector* vector, CellRun* run) const {
  const MaamPlan& plan = plan_;
  const int64_t in_row = CeilDiv(plan.pooled_width, plan.lanes_);
  int64_t runs = 0;
  for (int64_t v = 0; v < plan.VectorsOf(plan.rows); ++v) {
    const int64_t cell = plan.by_rows_ ? v / in_row * plan.stride + v % in_row * plan.lanes_ : v * plan.lanes_;
    vector[v] = {cell, runs, 0};
    for (int64_t lane = 0; lane < plan.lanes_;) {
      const int64_t row = (cell + lane) / plan.stride;
      const int64_t x = (cell + lane) % plan.stride;
      if (row >= plan.rows || (plan.by_rows_ && row != cell / plan.stride)) break;
      const int64_t count = std::min(plan.lanes_ - lane, plan.pooled_width - x);
      if (count > 0) {
        run[runs++] = {lane, row * plan.pooled_width + x, count};
        ++vector[v].runs;
      }
      lane += plan.stride - x;
    }
  }
}

}  // namespace maam
