// The kernels, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "conv_block/plan.h"
#include "winograd/training-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace conv_block {

using namespace winograd;

// A worker's working memory.
struct Memory {
  float *map, *gradient, *input, *product, *staged;

  Memory(const ConvPlan& plan, char* scratch)
      : map(reinterpret_cast<float*>(scratch + plan.map)),
        gradient(reinterpret_cast<float*>(scratch + plan.gradient)),
        input(reinterpret_cast<float*>(scratch + plan.input)),
        product(reinterpret_cast<float*>(scratch + plan.product)),
        staged(reinterpret_cast<float*>(scratch + plan.staged)) {}
};

// f(strip, its first tile, its number in the bundle) for each strip of a bundle; returns the tiles of all.
template <class F>
MAAM_INLINE int64_t ForStrips(const ConvPlan& plan, int64_t bundle, F&& f) {
  int64_t tiles = 0;
  for (int64_t i = 0; i < plan.bundle; ++i) {
    const int64_t index = bundle * plan.bundle + i;
    if (index >= plan.strips.Count()) break;
    const Strip s = StripAt(plan.strips, index);
    f(s, tiles, i);
    tiles += s.Tiles();
  }
  return tiles;
}

// The strip's part of X and a pixel around it, zeros outside the image: (vectors of channels, rows, columns, lanes).
static void StageMap(const ConvPlan& plan, const Strip& s, float* map) {
  const Strips& t = plan.strips;
  const int64_t columns = 4 * s.columns + 2, left = 4 * s.left - 1;
  const int64_t begin = left < 0 ? -left : 0;
  const int64_t end = t.width - left < columns ? t.width - left : columns;
  const int64_t plane = t.height * t.width;
  for (int64_t c = 0; c < t.middle; c += V::kLanes) {
    const int64_t exist = plan.depth - c < V::kLanes ? plan.depth - c : V::kLanes;
    for (int64_t r = 0; r < 4 * s.rows + 2; ++r) {
      const int64_t y = 4 * s.top - 1 + r;
      float* row = map + (c * t.MapRows() + r * V::kLanes) * t.MapStride();
      if (exist <= 0 || y < 0 || y >= t.height) {
        ZeroCells(row, columns);
        continue;
      }
      ZeroCells(row, begin);
      const float* from = plan.p.x + (s.image * t.inputs + c) * plane + y * t.width + left + begin;
      ForVectors<V>(end - begin, [&](int64_t i, int64_t n) {
        float* to = row + (begin + i) * V::kLanes;
        if (n == V::kLanes && exist == V::kLanes) return TransposeSquare<V>(from + i, plane, to, V::kLanes);
        float first[V::kLanes * V::kLanes] = {}, last[V::kLanes * V::kLanes];
        for (int64_t j = 0; j < exist; ++j) Store(first + j * V::kLanes, LoadUpTo(from + j * plane + i, n));
        TransposeSquare<V>(first, V::kLanes, last, V::kLanes);
        for (int64_t j = 0; j < n; ++j) Store(to + j * V::kLanes, Load(last + j * V::kLanes));
      });
      ZeroCells(row + end * V::kLanes, columns - end);
    }
  }
}

// One vector of channels of a strip's pixels (rows, columns, lanes) to channels first; kAdds: plus the residual there.
template <bool kAdds>
static void StoreStaged(const float* staged, int64_t stride, int64_t rows, int64_t columns, int64_t exist,
                        int64_t plane, int64_t width, const float* residual, float* to) {
  for (int64_t y = 0; y < rows; ++y) {
    ForVectors<V>(columns, [&](int64_t x, int64_t n) {
      float first[V::kLanes * V::kLanes];
      // Behind the last column stand other pixels of the buffer, or what an earlier panel left: dropped.
      TransposeSquare<V>(staged + (y * stride + x) * V::kLanes, V::kLanes, first, V::kLanes);
      for (int64_t j = 0; j < exist; ++j) {
        const int64_t at = j * plane + y * width + x;
        V value = Load(first + j * V::kLanes);
        if constexpr (kAdds) value = Add(value, LoadUpTo(residual + at, n));
        StoreUpTo(to + at, value, n);
      }
    });
  }
}

MAAM_INLINE int64_t ExistOf(int64_t count, int64_t channel) {
  return count - channel < V::kLanes ? count - channel : V::kLanes;
}

// A of one vector of channels of a strip, in evaluation.
static void StoreEvaluated(const ConvPlan& plan, const Strip& s, const float* product, int64_t channel, float* staged) {
  const int64_t exist = ExistOf(plan.outputs, channel);
  if (exist <= 0) return;
  const V shift = Load(plan.norm.shift + channel);
  const int64_t side = plan.pools ? 2 : 4;  // of a tile's result
  const int64_t stride = side * s.columns;
  for (int64_t tile = 0; tile < s.Tiles(); ++tile) {
    V y[4][4];
    TransformOutput(product + tile * kPanelVectors * kFrequencies * V::kLanes, y);
    float* to = staged + (tile / s.columns * side * stride + tile % s.columns * side) * V::kLanes;
    if (plan.pools) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const V(&a)[4] = y[i / 2 * 2];
        const V(&b)[4] = y[i / 2 * 2 + 1];
        const int j = i % 2 * 2;
        // Max takes its second operand where the first is NaN, so that a NaN counts as "not above zero".
        const V top = Max(b[j + 1], Max(b[j], Max(a[j + 1], Max(a[j], Sub(Set(0.0f), shift)))));
        Store(to + (i / 2 * stride + i % 2) * V::kLanes, Relu(Add(top, shift)));
      }
    } else {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) Store(to + (i * stride + j) * V::kLanes, Relu(Add(y[i][j], shift)));
      }
    }
  }
  const int64_t rows =
      plan.result_height - side * s.top < side * s.rows ? plan.result_height - side * s.top : side * s.rows;
  const int64_t columns = plan.result_width - side * s.left < stride ? plan.result_width - side * s.left : stride;
  const int64_t plane = plan.result_height * plan.result_width;
  const int64_t at = (s.image * plan.outputs + channel) * plane + side * s.top * plan.result_width + side * s.left;
  if (plan.residual != nullptr) {
    StoreStaged<true>(staged, stride, rows, columns, exist, plane, plan.result_width, plan.residual + at, plan.a + at);
  } else {
    StoreStaged<false>(staged, stride, rows, columns, exist, plane, plan.result_width, nullptr, plan.a + at);
  }
}

// dX of one vector of channels of a strip.
static void StoreInputGradient(const ConvPlan& plan, const Strip& s, const float* product, int64_t channel,
                               float* staged) {
  const Strips& t = plan.strips;
  const int64_t exist = ExistOf(plan.depth, channel);
  if (exist <= 0) return;
  const int64_t stride = 4 * s.columns;
  for (int64_t tile = 0; tile < s.Tiles(); ++tile) {
    V y[4][4];
    TransformOutput(product + tile * kPanelVectors * kFrequencies * V::kLanes, y);
    float* to = staged + (tile / s.columns * 4 * stride + tile % s.columns * 4) * V::kLanes;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) Store(to + (i * stride + j) * V::kLanes, y[i][j]);
    }
  }
  const int64_t plane = t.height * t.width;
  const int64_t at = (s.image * plan.depth + channel) * plane + 4 * s.top * t.width + 4 * s.left;
  StoreStaged<false>(staged, stride, RowsOf(t, s), ColumnsOf(t, s), exist, plane, t.width, nullptr, plan.dx + at);
}

// X of a bundle, transformed.
static int64_t TransformBundle(const ConvPlan& plan, int64_t bundle, const Memory& m) {
  const Strips& t = plan.strips;
  return ForStrips(plan, bundle, [&](const Strip& s, int64_t tile, int64_t) {
    StageMap(plan, s, m.map);
    TransformInput(t, s, m.map, t.MapRows(), t.MapStride(), t.middle, m.product, m.input + tile * t.middle);
  });
}

MAAM_INLINE const float* ProductAt(const float* product, int64_t tile, int v) {
  return product + (tile * kPanelVectors + v) * kFrequencies * V::kLanes;
}

static void BackwardBundle(const ConvPlan& plan, int64_t bundle, const Memory& m, bool adds, float* weight_sums) {
  const Strips& t = plan.strips;
  const int64_t tiles = TransformBundle(plan, bundle, m);
  ForStrips(plan, bundle,
            [&](const Strip& s, int64_t, int64_t i) { FillGradient(plan, s, m.gradient + i * plan.GradientSize()); });
  for (int64_t c = 0; c < plan.channels; c += kPanelColumns) {
    ForStrips(plan, bundle, [&](const Strip& s, int64_t tile, int64_t i) {
      TransformGradient(plan, s, m.gradient + i * plan.GradientSize(), c, m.product + tile * kPanelColumns);
    });
    AddWeightSums(plan, adds, tiles, m.input, m.product, weight_sums + c * kFrequencies * t.middle);
  }
  ForStrips(plan, bundle, [&](const Strip& s, int64_t tile, int64_t i) {
    TransformInput(t, s, m.gradient + i * plan.GradientSize() + (plan.GradientStride() + 1) * V::kLanes,
                   plan.GradientRows(), plan.GradientStride(), plan.channels, m.product,
                   m.input + tile * plan.channels);
  });
  for (int64_t c = 0; c < plan.depth; c += kPanelColumns) {
    MultiplyPanel(t, tiles, m.input, plan.channels, plan.outputs,
                  plan.transposed.weight + c * kFrequencies * plan.outputs, m.product);
    ForStrips(plan, bundle, [&](const Strip& s, int64_t tile, int64_t) {
      for (int v = 0; v < kPanelVectors; ++v) {
        StoreInputGradient(plan, s, ProductAt(m.product, tile, v), c + v * V::kLanes, m.staged);
      }
    });
  }
}

}  // namespace conv_block
}  // namespace MAAM_ISA

void MAAM_VARIANT(conv_block_pack)(const ConvPlan& plan, int64_t vector, char* scratch) {
  using namespace MAAM_ISA;
  const int64_t output = vector * F32::kLanes;
  float* plain = reinterpret_cast<float*>(scratch);
  if (plan.pass == ConvPass::kBackward) {
    PackWinograd(plan.rotated + output * 9 * plan.outputs, plan.outputs, plan.depth, output, plan.ones, plain,
                 WinogradPanel(plan.transposed.weight, plan.outputs, output));
  } else {
    const float* scale = plan.pass == ConvPass::kInference ? plan.norm.scale : plan.ones;
    PackWinograd(plan.p.weight + output * 9 * plan.depth, plan.depth, plan.outputs, output, scale + output, plain,
                 WinogradPanel(plan.forward.weight, plan.depth, output));
  }
}

void MAAM_VARIANT(conv_block_inference)(const ConvPlan& plan, int64_t bundle, char* scratch) {
  using namespace MAAM_ISA;
  using namespace MAAM_ISA::conv_block;
  const Memory m(plan, scratch);
  const int64_t tiles = TransformBundle(plan, bundle, m);
  for (int64_t c = 0; c < plan.outputs; c += kPanelColumns) {
    MultiplyPanel(plan.strips, tiles, m.input, plan.strips.middle, plan.depth,
                  plan.forward.weight + c * kFrequencies * plan.depth, m.product);
    ForStrips(plan, bundle, [&](const Strip& s, int64_t tile, int64_t) {
      for (int v = 0; v < kPanelVectors; ++v) {
        StoreEvaluated(plan, s, ProductAt(m.product, tile, v), c + v * V::kLanes, m.staged);
      }
    });
  }
}

void MAAM_VARIANT(conv_block_forward)(const ConvPlan& plan, int64_t bundle, char* scratch) {
  using namespace MAAM_ISA;
  using namespace MAAM_ISA::conv_block;
  const Memory m(plan, scratch);
  const int64_t tiles = TransformBundle(plan, bundle, m);
  for (int64_t c = 0; c < plan.channels; c += kPanelColumns) {
    MultiplyPanel(plan.strips, tiles, m.input, plan.strips.middle, plan.depth,
                  plan.forward.weight + c * kFrequencies * plan.depth, m.product);
    ForStrips(plan, bundle, [&](const Strip& s, int64_t tile, int64_t i) {
      float* sums = plan.strip_sums + (bundle * plan.bundle + i) * 2 * plan.channels;
      for (int v = 0; v < kPanelVectors; ++v) {
        StoreConvolution(plan, s, ProductAt(m.product, tile, v), c + v * V::kLanes, sums);
      }
    });
  }
}

void MAAM_VARIANT(conv_block_finish)(const ConvPlan& plan, int64_t image, const float* residual, float* a) {
  using namespace MAAM_ISA::winograd;
  residual == nullptr ? StoreResult<false>(plan, image, nullptr, a) : StoreResult<true>(plan, image, residual, a);
}

void MAAM_VARIANT(conv_block_result_gradient)(const ConvPlan& plan, int64_t image, const float* da, float*) {
  MAAM_ISA::winograd::TakeResultGradient(plan, image, da);
}

void MAAM_VARIANT(conv_block_backward)(const ConvPlan& plan, int64_t group, char* scratch) {
  using namespace MAAM_ISA::conv_block;
  const Memory m(plan, scratch);
  float* weight_sums = plan.weight_sums + group * plan.WeightSums();
  for (int64_t i = plan.GroupBegin(group); i < plan.GroupBegin(group + 1); ++i) {
    BackwardBundle(plan, i, m, i > plan.GroupBegin(group), weight_sums);
  }
}

void MAAM_VARIANT(conv_block_weight_gradient)(const ConvPlan& plan, int64_t vector, float* gradient) {
  MAAM_ISA::winograd::StoreWeightGradient(plan, vector, gradient);
}

}  // namespace maam
