// Backward: what the sums over all pixels gain from a tile, written once and compiled for each instruction set. See
// sums.h.
#pragma once

#include <cstring>

#include "core/simd.h"
#include "maam/kernels.h"
#include "maam/passed-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_module {

// Vectors of a patch whose sums are in registers at a time, their steps in others.
constexpr int64_t kPatchVectors = 7;

// Pooled pixels of an image: tiles at the end of a row or column are smaller.
struct Tile {
  int64_t image, row, column, rows, columns;

  Tile(const SumsPlan& plan, int64_t index)
      : image(index / (plan.down * plan.across)),
        row(index / plan.across % plan.down * plan.rows),
        column(index % plan.across * plan.columns),
        rows(plan.p.height / 2 - row < plan.rows ? plan.p.height / 2 - row : plan.rows),
        columns(plan.p.width / 2 - column < plan.columns ? plan.p.width / 2 - column : plan.columns) {}
};

// Pixels less center, pixel by pixel; beside the image stands what a zero becomes.
template <class T>
static void StagePixels(const SumsPlan& plan, const float* center, const Tile& tile, float* staged) {
  const MaamInference& p = plan.p;
  for (int64_t r = 0; r < 2 * plan.rows + 2 * plan.edge; ++r) {
    const int64_t y = 2 * tile.row + r - plan.edge;
    const bool inside = y >= 0 && y < p.height;
    const int64_t left = 2 * tile.column - plan.edge;
    const int64_t begin = left < 0 ? -left : 0;
    const int64_t total = 2 * (plan.columns + plan.edge);
    const int64_t end = !inside ? begin : p.width - left < total ? p.width - left : total;
    for (int64_t c = 0; c < p.inputs; ++c) {
      const T* from =
          static_cast<const T*>(p.x) + ((tile.image * p.inputs + c) * p.height + (inside ? y : 0)) * p.width;
      float* to = staged + r * plan.stride + c;
      for (int64_t x = 0; x < begin; ++x) to[x * p.inputs] = -center[c];
      for (int64_t x = begin; x < end; ++x) to[x * p.inputs] = ToFloat(from[left + x]) - center[c];
      for (int64_t x = end; x < total; ++x) to[x * p.inputs] = -center[c];
    }
  }
}

// The gradients of a channel that are passed on, and where in the tile their pixels are, from `origin` on; behind them
// zeros up to a whole vector. Returns how many.
static int64_t ListGradients(const SumsPlan& plan, const float* dg, const uint8_t* pixel, int64_t total, int32_t origin,
                             int32_t* place, float* gradient) {
  int64_t count = 0;
  int64_t i = 0;
  for (; i + V::kLanes <= total; i += V::kLanes) {
    count += AppendPassed(dg + i, pixel + i, plan.place + i, plan.within, origin, place + count, gradient + count);
  }
  if (i < total) {
    float last[V::kLanes];
    uint8_t of[V::kLanes];
    Store(last, LoadFirst(dg + i, total - i));
    std::memset(of, kNoPixel, sizeof of);
    std::memcpy(of, pixel + i, static_cast<size_t>(total - i));
    count += AppendPassed(last, of, plan.place + i, plan.within, origin, place + count, gradient + count);
  }
  Store(gradient + count, Set(0.0f));
  return count;
}

// sums[j] += gradient times what stands step[j] behind the place, over the list.
template <int kVectors>
static void AddPatches(const int64_t* step, const int32_t* place, const float* gradient, int64_t count,
                       const float* staged, float* sums) {
  V sum[kVectors];
  const float* at[kVectors];
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) {
    sum[j] = Load(sums + j * V::kLanes);
    at[j] = staged + step[j];
  }
  for (int64_t i = 0; i < count; ++i) {
    const V d = Set(gradient[i]);
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) sum[j] = Fma(d, Load(at[j] + place[i]), sum[j]);
  }
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) Store(sums + j * V::kLanes, sum[j]);
}

using AddPatchesOf = void(const int64_t*, const int32_t*, const float*, int64_t, const float*, float*);
constexpr AddPatchesOf* kAddPatches[kPatchVectors + 1] = {
    nullptr, AddPatches<1>, AddPatches<2>, AddPatches<3>, AddPatches<4>, AddPatches<5>, AddPatches<6>, AddPatches<7>,
};

// A channel's sums in lanes gain the list: those of the patch, and behind them that of the gradients.
static void AddList(const SumsPlan::Patch& patch, const int32_t* place, const float* gradient, int64_t count,
                    const float* staged, float* sums) {
  const int64_t vectors = patch.vectors;
  for (int64_t j = 0, blocks = (vectors + kPatchVectors - 1) / kPatchVectors; blocks > 0; --blocks) {
    const int64_t here = (vectors - j + blocks - 1) / blocks;
    kAddPatches[here](patch.step + j, place, gradient, count, staged, sums + j * V::kLanes);
    j += here;
  }
  V sum = Load(sums + vectors * V::kLanes);
  for (int64_t i = 0; i < count; i += V::kLanes) sum = Add(sum, Load(gradient + i));
  Store(sums + vectors * V::kLanes, sum);
}

static void AddTileSums(const SumsPlan& plan, const GradientOperands& from, const Tile& tile, const float* staged,
                        char* scratch, float* lanes) {
  const MaamInference& p = plan.p;
  const int64_t pixels = (p.height / 2) * (p.width / 2);
  int32_t* place = reinterpret_cast<int32_t*>(scratch + plan.PlaceOffset());
  float* gradient = reinterpret_cast<float*>(scratch + plan.GradientOffset());
  for (int k = 0; k < p.branches; ++k) {
    const int64_t edge = plan.edge - p.branch[k].kernel / 2;
    const int32_t origin = static_cast<int32_t>(edge * (plan.stride + p.inputs));
    for (int64_t c = 0; c < p.channels; ++c) {
      const int64_t at = (tile.image * p.channels + c) * pixels + tile.row * (p.width / 2) + tile.column;
      const int64_t count = ListGradients(plan, from.dg + at, from.pixel + k * p.batch * p.channels * pixels + at,
                                          tile.rows * tile.columns, origin, place, gradient);
      AddList(plan.patch[k], place, gradient, count, staged, lanes);
      lanes += (plan.patch[k].vectors + 1) * V::kLanes;
    }
  }
}

// Takes the sums out of the lanes, and leaves zeros in them.
static void Flush(const SumsPlan& plan, float* lanes, double* sums) {
  for (int k = 0; k < plan.p.branches; ++k) {
    const SumsPlan::Patch& patch = plan.patch[k];
    const int64_t taps = plan.p.inputs * plan.p.branch[k].kernel * plan.p.branch[k].kernel;
    for (int64_t c = 0; c < plan.p.channels; ++c, sums += taps + 1) {
      for (int64_t i = 0; i < patch.vectors * V::kLanes; ++i, ++lanes) {
        if (patch.tap[i] != SumsPlan::kNoTap) sums[patch.tap[i]] += static_cast<double>(*lanes);
        *lanes = 0;
      }
      sums[taps] += SumLanes(Load(lanes));
      Store(lanes, Set(0.0f));
      lanes += V::kLanes;
    }
  }
}

static void Sums(const SumsPlan& plan, const GradientOperands& from, int64_t begin, int64_t end, char* scratch,
                 double* sums) {
  constexpr int64_t kSpan = 512;  // pooled pixels whose sums stay in the lanes, in float32
  const MaamInference& p = plan.p;
  float* staged = reinterpret_cast<float*>(scratch);
  float* lanes = reinterpret_cast<float*>(scratch + plan.LanesOffset());
  for (int64_t i = 0; i < plan.Sums(); ++i) sums[i] = 0;
  const int64_t lane_vectors = plan.LaneVectors();
  for (int64_t i = 0; i < lane_vectors * V::kLanes; ++i) lanes[i] = 0;
  // Lanes behind the last tap are dropped, but must not hold what slows arithmetic down.
  for (int64_t i = 0; i < V::kLanes; ++i) staged[plan.StagedFloats() - 1 - i] = 0;
  int64_t span = 0;
  const int64_t tiles = plan.down * plan.across;
  for (int64_t i = begin * tiles; i < end * tiles; ++i) {
    const Tile tile(plan, i);
    WithSingleType(p.dtype, [&]<class T>(T*) { StagePixels<T>(plan, from.center, tile, staged); });
    AddTileSums(plan, from, tile, staged, scratch, lanes);
    span += tile.rows * tile.columns;
    if (span >= kSpan || i + 1 == end * tiles) {
      Flush(plan, lanes, sums);
      span = 0;
    }
  }
}

}  // namespace maam_module
}  // namespace MAAM_ISA
}  // namespace maam
