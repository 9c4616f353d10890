// Backward: the gradient of X, one image at a time, written once and compiled for each instruction set.
#pragma once

#include "maam/stage-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_module {

constexpr int kInputTaps = kRegisters == 32 ? 4 : 2;  // by the four pixels of a pooled one, in registers at a time
static_assert(kMaxInputTaps % kInputTaps == 0);
constexpr int kStatisticsTaps = 4;  // by this many vectors of pixels
constexpr int kStatisticsVectors = 2;
static_assert(kStatisticsVectors * V::kLanes <= InputLayout::kBehind);

template <class T>
static void StageImage(const MaamPlan& plan, const InputLayout& layout, int64_t kernel, int64_t image, float* staged) {
  const MaamInference& p = plan.p;
  for (int64_t i = 0; i < p.inputs * layout.plane; ++i) staged[i] = 0;
  for (int64_t c = 0; c < p.inputs; ++c) {
    for (int64_t y = 0; y < p.height; ++y) {
      const T* from = static_cast<const T*>(p.x) + ((image * p.inputs + c) * p.height + y) * p.width;
      float* to = staged + c * layout.plane + (y + kernel / 2) * layout.stride + kernel / 2;
      for (int64_t x = 0; x < p.width; ++x) to[x] = ToFloat(from[x]);
    }
  }
}

// gradient[tap u of p] += constant_u + sum_t matrix_ut P_t(p) for kStatisticsTaps taps u and kStatisticsVectors vectors
// of pixels, of which the first `count` are in the image.
MAAM_INLINE void AddStatistics(const float* const (&row)[kStatisticsTaps], const float (&constant)[kStatisticsTaps],
                               int64_t taps, const int64_t* offset, const float* image, int64_t count,
                               float* const (&to)[kStatisticsTaps]) {
  V sum[kStatisticsTaps][kStatisticsVectors];
#pragma GCC unroll 4
  for (int u = 0; u < kStatisticsTaps; ++u) {
#pragma GCC unroll 4
    for (int v = 0; v < kStatisticsVectors; ++v) sum[u][v] = Set(constant[u]);
  }
  for (int64_t t = 0; t < taps; ++t) {
    V pixels[kStatisticsVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kStatisticsVectors; ++v) pixels[v] = Load(image + offset[t] + v * V::kLanes);
#pragma GCC unroll 4
    for (int u = 0; u < kStatisticsTaps; ++u) {
      const V weight = Set(row[u][t]);
#pragma GCC unroll 4
      for (int v = 0; v < kStatisticsVectors; ++v) sum[u][v] = Fma(weight, pixels[v], sum[u][v]);
    }
  }
  for (int u = 0; u < kStatisticsTaps && to[u] != nullptr; ++u) {
    for (int64_t v = 0; v < kStatisticsVectors && v * V::kLanes < count; ++v) {
      float* at = to[u] + v * V::kLanes;
      const V gained = Add(Load(at), sum[u][v]);
      const int64_t left = count - v * V::kLanes;
      left >= V::kLanes ? Store(at, gained) : StoreFirst(at, gained, left);
    }
  }
}

// What the statistics add, over all pixels of the image. A tap beyond the last one is computed as if it were that one,
// and dropped.
static void AddAllStatistics(const InputOperands& from, const InputLayout& layout, const MaamInference& p,
                             const int64_t* offset, const float* image, float* gradient) {
  const int64_t taps = p.inputs * from.kernel * from.kernel;
  for (int64_t y = 0; y < p.height; ++y) {
    for (int64_t x = 0; x < p.width; x += kStatisticsVectors * V::kLanes) {
      const int64_t at = y * layout.stride + x;
      for (int64_t first = 0; first < taps; first += kStatisticsTaps) {
        const float* row[kStatisticsTaps];
        float constant[kStatisticsTaps];
        float* to[kStatisticsTaps];
        for (int u = 0; u < kStatisticsTaps; ++u) {
          const int64_t tap = first + u < taps ? first + u : taps - 1;
          row[u] = from.matrix + tap * taps;
          constant[u] = from.constant[tap];
          to[u] = first + u < taps ? gradient + offset[tap] + at : nullptr;
        }
        AddStatistics(row, constant, taps, offset, image + at, p.width - x, to);
      }
    }
  }
}

// As LoadRuns, of bytes, and no pixel in the other lanes.
MAAM_INLINE V LoadByteRuns(const MaamPlan& plan, const CellVector& vector, int64_t count, const uint8_t* row) {
  const CellRun* run = plan.run + vector.first_run;
  if (vector.runs == 1 && run->count == V::kLanes) return LoadBytes(row + run->column);
  uint8_t lanes[V::kLanes];
  for (int i = 0; i < V::kLanes; ++i) lanes[i] = kNoPixel;
  for (int64_t i = 0; i < vector.runs && run[i].column < count; ++i) {
    for (int64_t j = 0; j < run[i].count; ++j) lanes[run[i].lane + j] = row[run[i].column + j];
  }
  return LoadBytes(lanes);
}

// planes[tap] += sum_c weight_c[tap] D_c for kInputTaps taps and a vector of pooled pixels.
MAAM_INLINE void AddTapGradients(const float* weight, int64_t row, int64_t channels, const float* d,
                                 const int64_t* offset, int64_t taps, float* cell) {
  V sum[kInputTaps][kPool];
#pragma GCC unroll 4
  for (int t = 0; t < kInputTaps; ++t) {
#pragma GCC unroll 4
    for (int j = 0; j < kPool; ++j) sum[t][j] = Set(0.0f);
  }
  for (int64_t c = 0; c < channels; ++c, weight += row, d += kPool * V::kLanes) {
#pragma GCC unroll 4
    for (int j = 0; j < kPool; ++j) {
      const V here = Load(d + j * V::kLanes);
#pragma GCC unroll 4
      for (int t = 0; t < kInputTaps; ++t) sum[t][j] = Fma(Set(weight[t]), here, sum[t][j]);
    }
  }
  for (int t = 0; t < kInputTaps && t < taps; ++t) {
    for (int j = 0; j < kPool; ++j) {
      float* to = cell + offset[t * kPool + j];
      Store(to, Add(Load(to), sum[t][j]));
    }
  }
}

static void AddBranchGradient(const MaamPlan& plan, const InputOperands& from, int k, int64_t image, float* planes,
                              float* d) {
  const MaamInference& p = plan.p;
  const int64_t pixels = plan.pooled_height * plan.pooled_width;
  const int64_t taps = plan.branch[k].taps;
  const int64_t row = InputRow(taps);
  for (int64_t v = 0; v < plan.VectorsOf(plan.pooled_height); ++v) {
    for (int64_t c = 0; c < p.channels; ++c) {
      const int64_t at = (image * p.channels + c) * pixels;
      const V dg = LoadRuns(plan, plan.vector[v], pixels, from.dg + at);
      const V pixel = LoadByteRuns(plan, plan.vector[v], pixels, from.pixel + k * p.batch * p.channels * pixels + at);
      for (int j = 0; j < kPool; ++j) {
        Store(d + (c * kPool + j) * V::kLanes, WhereEqual(pixel, Set(static_cast<float>(j)), dg));
      }
    }
    for (int64_t t = 0; t < taps; t += kInputTaps) {
      AddTapGradients(from.weight[k] + t, row, p.channels, d, plan.branch[k].offset + t * kPool, taps - t,
                      planes + plan.Origin() + plan.vector[v].cell);
    }
  }
}

// dX of the image, whole rows of which form the only strip.
static void InputGradient(const MaamPlan& plan, const InputOperands& from, int64_t image, char* scratch) {
  const MaamInference& p = plan.p;
  const InputLayout layout(plan, from.kernel);
  float* staged = reinterpret_cast<float*>(scratch + layout.image);
  float* gradient = reinterpret_cast<float*>(scratch + layout.gradient);
  float* planes = reinterpret_cast<float*>(scratch + layout.planes);
  float* d = reinterpret_cast<float*>(scratch + layout.d);
  int64_t* offset = reinterpret_cast<int64_t*>(scratch + layout.offset);
  WithSingleType(p.dtype, [&]<class T>(T*) { StageImage<T>(plan, layout, from.kernel, image, staged); });
  for (int64_t i = 0; i < p.inputs * layout.plane; ++i) gradient[i] = 0;
  for (int64_t i = 0; i < p.inputs * kPool * plan.plane; ++i) planes[i] = 0;
  const int64_t in_plane = from.kernel * from.kernel;
  for (int64_t t = 0; t < p.inputs * in_plane; ++t) {
    offset[t] = t / in_plane * layout.plane + t % in_plane / from.kernel * layout.stride + t % from.kernel;
  }
  AddAllStatistics(from, layout, p, offset, staged, gradient);
  for (int k = 0; k < p.branches; ++k) AddBranchGradient(plan, from, k, image, planes, d);
  const int64_t edge = from.kernel / 2;
  for (int64_t c = 0; c < p.inputs; ++c) {
    for (int64_t y = 0; y < p.height; ++y) {
      float* to = from.dx + ((image * p.inputs + c) * p.height + y) * p.width;
      const float* statistics = gradient + c * layout.plane + (y + edge) * layout.stride + edge;
      const float* even = planes + (c * kPool + y % 2 * 2) * plan.plane + plan.Origin() + y / 2 * plan.stride;
      for (int64_t x = 0; x < p.width; ++x) to[x] = statistics[x] + even[x % 2 * plan.plane + x / 2];
    }
  }
}

}  // namespace maam_module
}  // namespace MAAM_ISA
}  // namespace maam
