// Backward: the sums over X, the gradient of G and the noted pixels, written once and compiled for each instruction
// set.
#pragma once

#include "maam/stage-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_module {

// Channels by kTapBlock taps whose sums are in registers at a time, beside D of the four pixels of a pooled one.
constexpr int kSumChannels = kRegisters == 32 ? 2 : 1;
static_assert(kSumChannels <= SumsLayout::kMaxChannels && kMaxLanes % V::kLanes == 0);

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

// d[v][channel][pixel]: the gradient of G where it goes to that pixel, else 0; zeros for channels that do not exist.
// bias gains the sums over all pixels.
static void StageGradients(const MaamPlan& plan, const GradientOperands& from, int k, int64_t c, int64_t image,
                           int64_t row, int64_t rows, float* d, V (&bias)[kSumChannels]) {
  const MaamInference& p = plan.p;
  const int64_t pixels = plan.pooled_height * plan.pooled_width;
  const int64_t count = rows * plan.pooled_width;
  const int64_t vectors = plan.VectorsOf(rows);
  for (int i = 0; i < kSumChannels; ++i) {
    const bool exists = c + i < p.channels;
    const int64_t at = (image * p.channels + c + i) * pixels + row * plan.pooled_width;
    const uint8_t* noted = from.pixel + k * p.batch * p.channels * pixels + at;
    for (int64_t v = 0; v < vectors; ++v) {
      float* to = d + (v * kSumChannels + i) * kPool * V::kLanes;
      const V dg = exists ? LoadRuns(plan, plan.vector[v], count, from.dg + at) : Set(0.0f);
      const V pixel = exists ? LoadByteRuns(plan, plan.vector[v], count, noted) : Set(0.0f);
#pragma GCC unroll 4
      for (int j = 0; j < kPool; ++j) {
        const V here = WhereEqual(pixel, Set(static_cast<float>(j)), dg);
        bias[i] = Add(bias[i], here);
        Store(to + j * V::kLanes, here);
      }
    }
  }
}

// sums[i][t] += sum over pixels of D_i times tap t, for kTapBlock taps.
static void AddTaps(const MaamPlan& plan, const int64_t* offset, int64_t vectors, const float* planes, const float* d,
                    float* sums) {
  V sum[kSumChannels][kTapBlock];
#pragma GCC unroll 4
  for (int i = 0; i < kSumChannels; ++i) {
#pragma GCC unroll 16
    for (int t = 0; t < kTapBlock; ++t) sum[i][t] = Load(sums + (i * kTapBlock + t) * V::kLanes);
  }
  for (int64_t v = 0; v < vectors; ++v) {
    const float* cell = planes + plan.Origin() + plan.vector[v].cell;
    V here[kSumChannels][kPool];
#pragma GCC unroll 4
    for (int i = 0; i < kSumChannels; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kPool; ++j) here[i][j] = Load(d + ((v * kSumChannels + i) * kPool + j) * V::kLanes);
    }
#pragma GCC unroll 16
    for (int t = 0; t < kTapBlock; ++t) {
#pragma GCC unroll 4
      for (int j = 0; j < kPool; ++j) {
        const V x = Load(cell + offset[t * kPool + j]);
#pragma GCC unroll 4
        for (int i = 0; i < kSumChannels; ++i) sum[i][t] = Fma(here[i][j], x, sum[i][t]);
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kSumChannels; ++i) {
#pragma GCC unroll 16
    for (int t = 0; t < kTapBlock; ++t) Store(sums + (i * kTapBlock + t) * V::kLanes, sum[i][t]);
  }
}

// Visits the vectors of sums in the order in which they stand in memory: f(k, channel, t), t = row - 1 for the bias.
template <class F>
MAAM_INLINE void ForSums(const MaamPlan& plan, const GradientSumsLayout& layout, F&& f) {
  for (int k = 0; k < plan.p.branches; ++k) {
    for (int64_t c = 0; c < plan.p.channels; c += kSumChannels) {
      for (int64_t t = 0; t < layout.row[k] - 1; t += kTapBlock) {
        for (int i = 0; i < kSumChannels; ++i) {
          for (int64_t j = 0; j < kTapBlock; ++j) f(k, c + i, t + j);
        }
      }
      for (int i = 0; i < kSumChannels; ++i) f(k, c + i, layout.row[k] - 1);
    }
  }
}

static void AddStripSums(const MaamPlan& plan, const GradientOperands& from, const GradientSumsLayout& layout,
                         int64_t image, int64_t row, int64_t rows, const float* planes, float* d, float* sums) {
  const int64_t vectors = plan.VectorsOf(rows);
  for (int k = 0; k < plan.p.branches; ++k) {
    for (int64_t c = 0; c < plan.p.channels; c += kSumChannels) {
      V bias[kSumChannels];
#pragma GCC unroll 4
      for (int i = 0; i < kSumChannels; ++i) bias[i] = Set(0.0f);
      StageGradients(plan, from, k, c, image, row, rows, d, bias);
      for (int64_t t = 0; t < layout.row[k] - 1; t += kTapBlock) {
        AddTaps(plan, plan.branch[k].offset + t * kPool, vectors, planes, d, sums);
        sums += kSumChannels * kTapBlock * V::kLanes;
      }
      for (int i = 0; i < kSumChannels; ++i, sums += V::kLanes) Store(sums, Add(Load(sums), bias[i]));
    }
  }
}

// Takes the sums out of the lanes, and leaves zeros in them.
static void Flush(const MaamPlan& plan, const GradientSumsLayout& layout, float* lanes, double* sums) {
  V part[V::kLanes];
  double* to[V::kLanes];
  int filled = 0;
  const auto drain = [&] {
    for (int i = filled; i < V::kLanes; ++i) part[i] = Set(0.0f);
    float totals[V::kLanes];
    Store(totals, SumEach(part));
    for (int i = 0; i < filled; ++i) *to[i] += static_cast<double>(totals[i]);
    filled = 0;
  };
  ForSums(plan, layout, [&](int k, int64_t c, int64_t t) {
    if (c < plan.p.channels) {
      part[filled] = Load(lanes);
      to[filled++] = sums + layout.Row(k, c) + t;
      if (filled == V::kLanes) drain();
    }
    Store(lanes, Set(0.0f));
    lanes += V::kLanes;
  });
  drain();
}

static void Sums(const MaamPlan& plan, const GradientOperands& from, int64_t begin, int64_t end, char* scratch,
                 double* sums) {
  constexpr int64_t kSpan = 4096;  // pooled pixels whose sums stay in the lanes, in float32
  const SumsLayout memory(plan);
  const GradientSumsLayout layout(plan.p);
  float* planes = reinterpret_cast<float*>(scratch + memory.planes);
  float* d = reinterpret_cast<float*>(scratch + memory.d);
  float* lanes = reinterpret_cast<float*>(scratch + memory.sums);
  for (int64_t i = 0; i < layout.total; ++i) sums[i] = 0;
  int64_t span = 0;
  for (int64_t image = begin; image < end; ++image) {
    for (int64_t row = 0; row < plan.pooled_height; row += plan.rows) {
      const int64_t rows = plan.pooled_height - row < plan.rows ? plan.pooled_height - row : plan.rows;
      StageStrip(plan, from.center, image, row, rows, planes);
      AddStripSums(plan, from, layout, image, row, rows, planes, d, lanes);
      span += rows * plan.pooled_width;
      if (span >= kSpan || (image + 1 == end && row + rows == plan.pooled_height)) {
        Flush(plan, layout, lanes, sums);
        span = 0;
      }
    }
  }
}

}  // namespace maam_module
}  // namespace MAAM_ISA
}  // namespace maam
