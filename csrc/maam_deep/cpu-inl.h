// The kernels, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "core/tile-inl.h"
#include "maam_deep/plan.h"
#include "winograd/first-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_deep {

using V = F32;

// A worker's working memory.
struct Memory {
  float *patch, *map, *sums, *input, *product, *panel;

  Memory(const DeepPlan& plan, char* scratch)
      : patch(reinterpret_cast<float*>(scratch + plan.patch)),
        map(reinterpret_cast<float*>(scratch + plan.map)),
        sums(reinterpret_cast<float*>(scratch + plan.sums)),
        input(reinterpret_cast<float*>(scratch + plan.input)),
        product(reinterpret_cast<float*>(scratch + plan.product)),
        panel(reinterpret_cast<float*>(scratch + plan.panel)) {}
};

// The weights of a vector of outputs from `first` on, `depth` each: where they are, or widened into `memory`.
static const float* WeightsAt(const ConvNorm& conv, int64_t first, int64_t outputs, int64_t depth, float* memory) {
  if (conv.half == nullptr) return conv.weight + first * depth;
  const int64_t count = outputs - first < V::kLanes ? outputs - first : V::kLanes;
  WithSingleType(conv.half_dtype, [&]<class T>(T*) {
    const T* from = static_cast<const T*>(conv.half) + first * depth;
    ForVectors<V>(count * depth, [&](int64_t i, int64_t n) { Store(memory + i, LoadUpTo(from + i, n)); });
  });
  return memory;
}

// A vector of a branch's second convolution, into its place in a panel.
static void PackSecond(const DeepPlan& plan, int k, int64_t first, char* scratch, float* panel) {
  const MaamDeepInference& p = plan.p;
  const float* weight =
      WeightsAt(p.second[k], first, p.channels, 9 * p.middle, reinterpret_cast<float*>(scratch + plan.PackPart()));
  PackWinograd(weight, p.middle, p.channels, first, plan.branch[k].second_scale + first,
               reinterpret_cast<float*>(scratch), panel);
}

// A panel of a branch's second convolution, from the tables or made now.
static const float* PanelOf(const DeepPlan& plan, int k, int64_t channel, const Memory& m) {
  const MaamDeepInference& p = plan.p;
  const DeepBranch& branch = plan.branch[k];
  if (!plan.packs_by_strip) return WinogradPanel(branch.second.weight, p.middle, channel);
  char* scratch = reinterpret_cast<char*>(m.panel + kFrequencies * p.middle * kPanelColumns);
  for (int64_t c = channel; c < channel + kPanelColumns; c += V::kLanes) PackSecond(plan, k, c, scratch, m.panel);
  return m.panel;
}

// Shift, ReLU and pooling of one vector of channels of one tile: 2 x 2 pooled pixels.
MAAM_INLINE void PoolTile(const float* m, V shift, V (&pooled)[4]) {
  V z[4][4];
  TransformOutput(m, z);
  const V least = Sub(Set(0.0f), shift);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const V(&a)[4] = z[i / 2 * 2];
    const V(&b)[4] = z[i / 2 * 2 + 1];
    const int j = i % 2 * 2;
    // Max takes its second operand where the first is NaN, so that a NaN counts as "not above zero".
    const V top = Max(b[j + 1], Max(b[j], Max(a[j + 1], Max(a[j], least))));
    pooled[i] = Relu(Add(top, shift));
  }
}

// Adds one panel of a branch to the sum over branches: (pooled pixels, channels).
template <bool kFirst>
static void AddPooled(const DeepPlan& plan, const Strip& s, const Memory& m, const float* shift, int64_t channel) {
  for (int64_t tile = 0; tile < s.Tiles(); ++tile) {
    const int64_t pixel = (tile / s.columns * 2 * s.columns + tile % s.columns) * 2;
    for (int v = 0; v < kPanelVectors; ++v) {
      V pooled[4];
      PoolTile(m.product + (tile * kPanelVectors + v) * kFrequencies * V::kLanes, Load(shift + v * V::kLanes), pooled);
      float* sum = m.sums + pixel * plan.channels + channel + v * V::kLanes;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        float* to = sum + (i / 2 * 2 * s.columns + i % 2) * plan.channels;
        Store(to, kFirst ? pooled[i] : Add(Load(to), pooled[i]));
      }
    }
  }
}

// A panel of F from channels last to channels first.
template <class T>
static void StorePanel(const DeepPlan& plan, const Strip& s, const float* last, float* first, int64_t panel) {
  const MaamDeepInference& p = plan.p;
  const int64_t stride = RoundUp(4 * s.Tiles(), V::kLanes);
  for (int v = 0; v < kPanelVectors; ++v) {
    for (int64_t pixel = 0; pixel < stride; pixel += V::kLanes) {
      TransposeSquare<V>(last + pixel * kPanelColumns + v * V::kLanes, kPanelColumns,
                         first + v * V::kLanes * stride + pixel, stride);
    }
  }
  const int64_t rows = plan.pooled_height - 2 * s.top < 2 * s.rows ? plan.pooled_height - 2 * s.top : 2 * s.rows;
  const int64_t row = plan.pooled_width - 2 * s.left < 2 * s.columns ? plan.pooled_width - 2 * s.left : 2 * s.columns;
  const bool whole = row == plan.pooled_width && row == 2 * s.columns;  // rows follow one another on both sides
  for (int64_t o = 0; o < kPanelColumns && panel * kPanelColumns + o < p.outputs; ++o) {
    const float* from = first + o * stride;
    T* to = static_cast<T*>(p.f) +
            ((s.image * p.outputs + panel * kPanelColumns + o) * plan.pooled_height + 2 * s.top) * plan.pooled_width +
            2 * s.left;
    for (int64_t y = 0; y < (whole ? 1 : rows); ++y, from += 2 * s.columns, to += plan.pooled_width) {
      ForVectors<V>(whole ? rows * row : row,
                    [&](int64_t i, int64_t n) { StoreUpTo(to + i, LoadUpTo(from + i, n), n); });
    }
  }
}

// The 1x1 convolution of the sum over branches, with shift and ReLU.
static void Reduce(const DeepPlan& plan, const Strip& s, const Memory& m) {
  const auto offset = [](int64_t k) { return k; };
  ZeroRows(m.sums, plan.channels, 4 * s.Tiles());
  float* last = m.input;
  float* first = last + RoundUp(4 * s.Tiles(), V::kLanes) * kPanelColumns;
  for (int64_t panel = 0; panel < plan.outputs / kPanelColumns; ++panel) {
    const float* weight = plan.reduce.weight + panel * plan.p.channels * kPanelColumns;
    const float* shift = plan.reduce.shift + panel * kPanelColumns;
    for (int64_t pixel = 0; pixel < 4 * s.Tiles(); pixel += kPanelRows) {
      V sum[kPanelRows][kPanelVectors];
#pragma GCC unroll 8
      for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = Load(shift + v * V::kLanes);
      }
      PanelProduct<false>(m.sums + pixel * plan.channels, plan.channels, offset, plan.p.channels, weight, sum);
#pragma GCC unroll 8
      for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kPanelVectors; ++v) {
          Store(last + (pixel + r) * kPanelColumns + v * V::kLanes, Relu(sum[r][v]));
        }
      }
    }
    WithSingleType(plan.p.dtype, [&]<class T>(T*) { StorePanel<T>(plan, s, last, first, panel); });
  }
}

}  // namespace maam_deep
}  // namespace MAAM_ISA

void MAAM_VARIANT(maam_deep_pack)(const DeepPlan& plan, int64_t task, char* scratch) {
  using namespace MAAM_ISA;
  using namespace MAAM_ISA::maam_deep;
  const MaamDeepInference& p = plan.p;
  float* const wide = reinterpret_cast<float*>(scratch + plan.PackPart());
  float scale[F32::kLanes];
  const auto fold = [&scale](const ConvNorm& conv, double factor, int64_t outputs, int64_t first, const Panels& to) {
    FoldNorm(conv, factor, first, outputs - first, F32::kLanes, scale, to.shift + first);
  };
  const int64_t of_first = plan.strips.middle / F32::kLanes;
  const int64_t of_branch = of_first + plan.channels / F32::kLanes;
  const int64_t k = task / of_branch;
  const int64_t vector = task % of_branch;
  if (k >= p.branches) {
    const int64_t output = (task - p.branches * of_branch) * F32::kLanes;
    fold(p.reduce, 1, p.outputs, output, plan.reduce);
    PackPlain(WeightsAt(p.reduce, output, p.outputs, p.channels, wide), p.channels, p.outputs, output, scale,
              plan.reduce.weight);
  } else if (vector < of_first) {
    const FirstPanels& to = plan.branch[k].first;
    const int64_t output = vector * F32::kLanes;
    fold(p.first[k], 1, p.middle, output, to);
    PackPlain(WeightsAt(p.first[k], output, p.middle, to.taps, wide), to.taps, p.middle, output, scale, to.weight);
  } else {
    const DeepBranch& branch = plan.branch[k];
    const int64_t output = (vector - of_first) * F32::kLanes;
    FoldNorm(p.second[k], plan.mix[k], output, p.channels - output, F32::kLanes, branch.second_scale + output,
             branch.second.shift + output);
    if (plan.packs_by_strip) return;
    PackSecond(plan, k, output, scratch, WinogradPanel(branch.second.weight, p.middle, output));
  }
}

void MAAM_VARIANT(maam_deep_inference)(const DeepPlan& plan, int64_t index, char* scratch) {
  using namespace MAAM_ISA;
  using namespace MAAM_ISA::maam_deep;
  const Strips& t = plan.strips;
  const Strip s = StripAt(t, index);
  const Memory m(plan, scratch);
  WithSingleType(plan.p.dtype, [&]<class T>(T*) { StagePatch(t, s, static_cast<const T*>(plan.p.x), m.patch); });
  for (int k = 0; k < plan.p.branches; ++k) {
    const DeepBranch& branch = plan.branch[k];
    FirstConvolution<true>(t, s, branch.first, m.patch, m.map);
    TransformInput(t, s, m.map, t.MapRows(), t.MapStride(), t.middle, m.product, m.input);
    for (int64_t c = 0; c < plan.channels; c += kPanelColumns) {
      MultiplyPanel(t, s.Tiles(), m.input, t.middle, plan.p.middle, PanelOf(plan, k, c, m), m.product);
      if (k == 0) {
        AddPooled<true>(plan, s, m, branch.second.shift + c, c);
      } else {
        AddPooled<false>(plan, s, m, branch.second.shift + c, c);
      }
    }
  }
  Reduce(plan, s, m);
}

}  // namespace maam
