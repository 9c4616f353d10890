// The kernels, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "core/panel-inl.h"
#include "core/simd.h"
#include "core/tile-inl.h"
#include "core/winograd-inl.h"
#include "maam_deep/plan.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_deep {

using V = F32;

// One strip, in tiles of its image, and its working memory.
struct Strip {
  int64_t image, top, left, rows, columns;
  float *patch, *map, *sums, *input, *product;

  Strip(const DeepPlan& plan, int64_t of_image, int64_t index, char* scratch)
      : image(of_image),
        top(index / plan.strips_across * plan.rows),
        left(index % plan.strips_across * plan.columns),
        rows(plan.tile_rows - top < plan.rows ? plan.tile_rows - top : plan.rows),
        columns(plan.tile_columns - left < plan.columns ? plan.tile_columns - left : plan.columns),
        patch(reinterpret_cast<float*>(scratch + plan.patch)),
        map(reinterpret_cast<float*>(scratch + plan.map)),
        sums(reinterpret_cast<float*>(scratch + plan.sums)),
        input(reinterpret_cast<float*>(scratch + plan.input)),
        product(reinterpret_cast<float*>(scratch + plan.product)) {}

  int64_t Tiles() const { return rows * columns; }
  int64_t Pixels() const { return 4 * rows * columns; }  // pooled ones
};

// The pixels that the strip's taps reach, zeros around the image.
static void StagePatch(const DeepPlan& plan, const Strip& s) {
  const MaamDeepInference& p = plan.p;
  const int64_t left = 4 * s.left - 1 - plan.border;
  const int64_t begin = left < 0 ? -left : 0;
  const int64_t end = p.width - left < plan.patch_stride ? p.width - left : plan.patch_stride;
  for (int64_t i = 0; i < p.inputs * plan.patch_rows; ++i) {
    const int64_t y = 4 * s.top - 1 - plan.border + i % plan.patch_rows;
    const float* from = p.x + ((s.image * p.inputs + i / plan.patch_rows) * p.height + y) * p.width + left;
    float* row = s.patch + i * plan.patch_stride;
    const bool inside = y >= 0 && y < p.height;
    for (int64_t x = 0; x < plan.patch_stride; ++x) row[x] = inside && x >= begin && x < end ? from[x] : 0;
  }
}

MAAM_INLINE void ZeroCells(float* cells, int64_t count) {
  for (int64_t i = 0; i < count; ++i) Store(cells + i * V::kLanes, Set(0.0f));
}

// One row of one panel of the first convolution, with shift and ReLU, in columns [begin, end) of the map.
static void FirstRow(const DeepBranch& branch, int64_t panel, const float* patch, int64_t begin, int64_t end,
                     float* const (&row)[kPanelVectors]) {
  const float* weight = branch.first.weight + panel * branch.taps * kPanelColumns;
  const float* shift = branch.first.shift + panel * kPanelColumns;
  const auto offset = [&branch](int64_t tap) { return branch.offset[tap]; };
  for (int64_t c = begin; c < end; c += kPanelRows) {
    // The last block overlaps the one before it, or in a short row reaches behind it.
    const int64_t at = c + kPanelRows <= end || end - kPanelRows < begin ? c : end - kPanelRows;
    V sum[kPanelRows][kPanelVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = Load(shift + v * V::kLanes);
    }
    PanelProduct<false>(patch + at, 1, offset, branch.taps, weight, sum);
#pragma GCC unroll 8
    for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) Store(row[v] + (at + r) * V::kLanes, Relu(sum[r][v]));
    }
  }
}

// The result of the first convolution under the strip's tiles: (vectors of channels, rows, columns, lanes). Pixels
// outside the image are zeros, the second convolution's padding.
static void FirstConvolution(const DeepPlan& plan, const Strip& s, const DeepBranch& branch) {
  const int64_t columns = 4 * s.columns + 2;
  const int64_t before = 4 * s.left - 1;
  const int64_t begin = before < 0 ? -before : 0;
  const int64_t end = plan.p.width - before < columns ? plan.p.width - before : columns;
  for (int64_t panel = 0; panel < plan.middle / kPanelColumns; ++panel) {
    for (int64_t r = 0; r < 4 * s.rows + 2; ++r) {
      float* row[kPanelVectors];
      for (int v = 0; v < kPanelVectors; ++v) {
        row[v] = s.map + ((panel * kPanelVectors + v) * plan.MapRows() + r) * plan.map_stride * V::kLanes;
      }
      const int64_t y = 4 * s.top - 1 + r;
      const bool inside = y >= 0 && y < plan.p.height;
      if (inside) FirstRow(branch, panel, s.patch + r * plan.patch_stride, begin, end, row);
      for (int v = 0; v < kPanelVectors; ++v) {
        ZeroCells(row[v], inside ? begin : columns);
        if (inside) ZeroCells(row[v] + end * V::kLanes, columns - end);
      }
    }
  }
}

// B^T d B of all tiles: (frequencies, tiles, channels). Columns are transformed once for both tiles that share them.
static void TransformInput(const DeepPlan& plan, const Strip& s) {
  const int64_t columns = 4 * s.columns + 2;
  float* half = s.product;  // (6, columns, lanes)
  for (int64_t vector = 0; vector < plan.middle / V::kLanes; ++vector) {
    for (int64_t row = 0; row < s.rows; ++row) {
      const float* map = s.map + (vector * plan.MapRows() + 4 * row) * plan.map_stride * V::kLanes;
      for (int64_t c = 0; c < columns; ++c) {
        V d[6], t[6];
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) d[i] = Load(map + (i * plan.map_stride + c) * V::kLanes);
        WinogradInput(d, t);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) Store(half + (i * columns + c) * V::kLanes, t[i]);
      }
      for (int64_t tile = 0; tile < s.columns; ++tile) {
        float* to = s.input + (row * s.columns + tile) * plan.middle + vector * V::kLanes;
        for (int i = 0; i < 6; ++i) {
          V t[6], v[6];
#pragma GCC unroll 6
          for (int j = 0; j < 6; ++j) t[j] = Load(half + (i * columns + 4 * tile + j) * V::kLanes);
          WinogradInput(t, v);
#pragma GCC unroll 6
          for (int j = 0; j < 6; ++j, to += plan.FrequencyStride()) Store(to, v[j]);
        }
      }
    }
  }
}

// Rows that pad the tiles to whole blocks: computed and dropped, they must not hold what slows arithmetic down.
static void ZeroRows(float* rows, int64_t stride, int64_t count) {
  for (int64_t r = count; r % kPanelRows != 0; ++r) {
    for (int64_t i = 0; i < stride; ++i) rows[r * stride + i] = 0;
  }
}

// The matrix products of one panel of the second convolution: (tiles, vectors, frequencies, lanes).
static void Multiply(const DeepPlan& plan, const Strip& s, const float* weight) {
  const auto offset = [](int64_t k) { return k; };
  for (int64_t f = 0; f < kFrequencies; ++f, weight += plan.p.middle * kPanelColumns) {
    const float* input = s.input + f * plan.FrequencyStride();
    for (int64_t tile = 0; tile < s.Tiles(); tile += kPanelRows) {
      V sum[kPanelRows][kPanelVectors];
#pragma GCC unroll 8
      for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = Set(0.0f);
      }
      const float* rows = input + tile * plan.middle;
      if (tile == 0) {
        PanelProduct<true>(rows, plan.middle, offset, plan.p.middle, weight, sum);
      } else {
        PanelProduct<false>(rows, plan.middle, offset, plan.p.middle, weight, sum);
      }
      float* to = s.product + (tile * kPanelVectors * kFrequencies + f) * V::kLanes;
#pragma GCC unroll 8
      for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kPanelVectors; ++v, to += kFrequencies * V::kLanes) Store(to, sum[r][v]);
      }
    }
  }
}

// A^T m A, shift, ReLU and pooling of one vector of channels of one tile: 2 x 2 pooled pixels.
MAAM_INLINE void PoolTile(const float* m, V shift, V (&pooled)[4]) {
  V t[4][6];
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    V column[6], y[4];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) column[i] = Load(m + (i * 6 + j) * V::kLanes);
    WinogradOutput(column, y);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) t[i][j] = y[i];
  }
  const V least = Sub(Set(0.0f), shift);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) pooled[i] = least;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    V z[4];
    WinogradOutput(t[i], z);
    // Max takes its second operand where the first is NaN, so that a NaN counts as "not above zero".
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) pooled[i / 2 * 2 + j / 2] = Max(z[j], pooled[i / 2 * 2 + j / 2]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) pooled[i] = Relu(Add(pooled[i], shift));
}

// Adds one panel of a branch to the sum over branches: (pooled pixels, channels).
template <bool kFirst>
static void AddPooled(const DeepPlan& plan, const Strip& s, const float* shift, int64_t channel) {
  for (int64_t tile = 0; tile < s.Tiles(); ++tile) {
    const int64_t pixel = (tile / s.columns * 2 * s.columns + tile % s.columns) * 2;
    for (int v = 0; v < kPanelVectors; ++v) {
      V pooled[4];
      PoolTile(s.product + (tile * kPanelVectors + v) * kFrequencies * V::kLanes, Load(shift + v * V::kLanes), pooled);
      float* sum = s.sums + pixel * plan.channels + channel + v * V::kLanes;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        float* to = sum + (i / 2 * 2 * s.columns + i % 2) * plan.channels;
        Store(to, kFirst ? pooled[i] : Add(Load(to), pooled[i]));
      }
    }
  }
}

// A panel of F from channels last to channels first.
static void StorePanel(const DeepPlan& plan, const Strip& s, const float* last, float* first, int64_t panel) {
  const MaamDeepInference& p = plan.p;
  const int64_t stride = RoundUp(s.Pixels(), V::kLanes);
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
    float* to =
        p.f + ((s.image * p.outputs + panel * kPanelColumns + o) * plan.pooled_height + 2 * s.top) * plan.pooled_width +
        2 * s.left;
    for (int64_t y = 0; y < (whole ? 1 : rows); ++y, from += 2 * s.columns, to += plan.pooled_width) {
      ForVectors<V>(whole ? rows * row : row,
                    [&](int64_t i, int64_t n) { StoreUpTo(to + i, LoadUpTo(from + i, n), n); });
    }
  }
}

// The 1x1 convolution of the sum over branches, with shift and ReLU.
static void Reduce(const DeepPlan& plan, const Strip& s) {
  const auto offset = [](int64_t k) { return k; };
  ZeroRows(s.sums, plan.channels, s.Pixels());
  float* last = s.input;
  float* first = last + RoundUp(s.Pixels(), V::kLanes) * kPanelColumns;
  for (int64_t panel = 0; panel < plan.outputs / kPanelColumns; ++panel) {
    const float* weight = plan.reduce.weight + panel * plan.p.channels * kPanelColumns;
    const float* shift = plan.reduce.shift + panel * kPanelColumns;
    for (int64_t pixel = 0; pixel < s.Pixels(); pixel += kPanelRows) {
      V sum[kPanelRows][kPanelVectors];
#pragma GCC unroll 8
      for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = Load(shift + v * V::kLanes);
      }
      PanelProduct<false>(s.sums + pixel * plan.channels, plan.channels, offset, plan.p.channels, weight, sum);
#pragma GCC unroll 8
      for (int r = 0; r < kPanelRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kPanelVectors; ++v) {
          Store(last + (pixel + r) * kPanelColumns + v * V::kLanes, Relu(sum[r][v]));
        }
      }
    }
    StorePanel(plan, s, last, first, panel);
  }
}

// A vector of outputs of a convolution: scale, shift, and weights times scale.
static void PackPlain(const ConvNorm& conv, double factor, int64_t depth, int64_t outputs, int64_t first,
                      const DeepPanels& to) {
  float scale[V::kLanes];
  FoldNorm(conv, factor, first, outputs, V::kLanes, scale, to.shift + first);
  PackVector(conv.weight + first * depth, outputs, depth, scale,
             to.weight + first / kPanelColumns * depth * kPanelColumns + first % kPanelColumns, kPanelColumns);
}

// The same for a second convolution: G g G^T in panels (frequencies, inputs, outputs).
static void PackWinograd(const DeepPlan& plan, int k, int64_t outputs, int64_t first, float* scratch) {
  const int64_t inputs = plan.p.middle;
  const DeepPanels& to = plan.branch[k].second;
  float* scale = scratch + 9 * inputs * V::kLanes;
  FoldNorm(plan.p.second[k], plan.mix[k], first, outputs, V::kLanes, scale, to.shift + first);
  PackVector(plan.p.second[k].weight + first * 9 * inputs, outputs, 9 * inputs, scale, scratch, V::kLanes);
  for (int64_t i = 0; i < inputs; ++i) {
    V t[3][6];
#pragma GCC unroll 3
    for (int x = 0; x < 3; ++x) {
      V g[3];
#pragma GCC unroll 3
      for (int y = 0; y < 3; ++y) g[y] = Load(scratch + (i * 9 + y * 3 + x) * V::kLanes);
      WinogradWeight(g, t[x]);
    }
    float* panel = to.weight + (first / kPanelColumns * kFrequencies * inputs + i) * kPanelColumns;
    float* at = panel + first % kPanelColumns;
#pragma GCC unroll 6
    for (int y = 0; y < 6; ++y) {
      const V g[3] = {t[0][y], t[1][y], t[2][y]};
      V u[6];
      WinogradWeight(g, u);
#pragma GCC unroll 6
      for (int x = 0; x < 6; ++x, at += inputs * kPanelColumns) Store(at, u[x]);
    }
  }
}

}  // namespace maam_deep
}  // namespace MAAM_ISA

void MAAM_VARIANT(maam_deep_pack)(const DeepPlan& plan, int64_t task, char* scratch) {
  using namespace MAAM_ISA::maam_deep;
  const MaamDeepInference& p = plan.p;
  const int64_t of_first = plan.middle / V::kLanes;
  const int64_t of_branch = of_first + plan.channels / V::kLanes;
  const int64_t k = task / of_branch;
  const int64_t vector = task % of_branch;
  if (k >= p.branches) {
    const int64_t output = (task - p.branches * of_branch) * V::kLanes;
    PackPlain(p.reduce, 1, p.channels, p.outputs - output, output, plan.reduce);
  } else if (vector < of_first) {
    const int64_t output = vector * V::kLanes;
    PackPlain(p.first[k], 1, plan.branch[k].taps, p.middle - output, output, plan.branch[k].first);
  } else {
    const int64_t output = (vector - of_first) * V::kLanes;
    PackWinograd(plan, static_cast<int>(k), p.channels - output, output, reinterpret_cast<float*>(scratch));
  }
}

void MAAM_VARIANT(maam_deep_inference)(const DeepPlan& plan, int64_t image, int64_t index, char* scratch) {
  using namespace MAAM_ISA;
  using namespace MAAM_ISA::maam_deep;
  const Strip s(plan, image, index, scratch);
  StagePatch(plan, s);
  for (int k = 0; k < plan.p.branches; ++k) {
    const DeepBranch& branch = plan.branch[k];
    FirstConvolution(plan, s, branch);
    TransformInput(plan, s);
    for (int f = 0; f < kFrequencies; ++f) ZeroRows(s.input + f * plan.FrequencyStride(), plan.middle, s.Tiles());
    for (int64_t c = 0; c < plan.channels; c += kPanelColumns) {
      Multiply(plan, s, branch.second.weight + c * kFrequencies * plan.p.middle);
      if (k == 0) {
        AddPooled<true>(plan, s, branch.second.shift + c, c);
      } else {
        AddPooled<false>(plan, s, branch.second.shift + c, c);
      }
    }
  }
  Reduce(plan, s);
}

}  // namespace maam
