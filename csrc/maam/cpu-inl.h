// The kernel, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "core/gemm-inl.h"
#include "core/simd.h"
#include "maam/plan.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_module {

using V = F32;

// Channels whose four pooled pixels are in registers at a time.
constexpr int kChannels = kRegisters == 32 ? 4 : 2;

// row[0..count) = every second element of `from`; then zeros up to `cells`.
MAAM_INLINE void StageRow(const float* from, int64_t count, float* row, int64_t cells) {
  for (int64_t x = 0; x < count; ++x) row[x] = from[2 * x];
  for (int64_t x = count; x < cells; ++x) row[x] = 0;
}

// The rows of an image that a strip's taps reach, in planes by the parity of row and column, zeros around them.
static void StageStrip(const MaamPlan& plan, int64_t image, int64_t first, int64_t rows, float* planes) {
  const MaamInference& p = plan.p;
  for (int64_t i = 0; i < p.inputs * kPool; ++i) {
    const int64_t odd_row = i / 2 % 2;
    const int64_t odd_column = i % 2;
    const float* channel = p.x + (image * p.inputs + i / kPool) * p.height * p.width;
    float* origin = planes + i * plan.plane + plan.Origin();
    for (int64_t x = 0; x < plan.border; ++x) origin[x - plan.border * plan.stride - plan.border] = 0;
    for (int64_t r = -plan.border; r < rows + plan.border; ++r) {
      const int64_t y = 2 * (first + r) + odd_row;
      const bool inside = y >= 0 && y < p.height;
      StageRow(inside ? channel + y * p.width + odd_column : nullptr, inside ? (p.width + 1 - odd_column) / 2 : 0,
               origin + r * plan.stride, plan.stride);
    }
  }
}

// Folded convolution, normalisation, ReLU and max-pool of one branch for kChannels channels and one vector of pooled
// pixels, added to `sum`.
MAAM_INLINE void AddBranch(const FoldedBranch& branch, const float* weight, const float* shift, const float* cell,
                           V (&sum)[kChannels]) {
  V z[kChannels][kPool];
#pragma GCC unroll 8
  for (int c = 0; c < kChannels; ++c) {
#pragma GCC unroll 4
    for (int i = 0; i < kPool; ++i) z[c][i] = Set(0.0f);
  }
  const int64_t* offset = branch.offset;
  for (int64_t t = 0; t < branch.taps; ++t, offset += kPool, weight += kGroup) {
    V x[kPool];
#pragma GCC unroll 4
    for (int i = 0; i < kPool; ++i) x[i] = Load(cell + offset[i]);
#pragma GCC unroll 8
    for (int c = 0; c < kChannels; ++c) {
      const V w = Set(weight[c]);
#pragma GCC unroll 4
      for (int i = 0; i < kPool; ++i) z[c][i] = Fma(w, x[i], z[c][i]);
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < kChannels; ++c) {
    // Max takes its second operand where the first is NaN, so that a NaN counts as "not above zero".
    V top = Set(-shift[c]);
#pragma GCC unroll 4
    for (int i = 0; i < kPool; ++i) top = Max(z[c][i], top);
    const V pooled = Add(top, Set(shift[c]));
    sum[c] = Add(sum[c], WherePositive(pooled, pooled));
  }
}

MAAM_INLINE void StoreRuns(const MaamPlan& plan, const CellVector& vector, V x, float* row) {
  const CellRun* run = plan.run + vector.first_run;
  if (vector.runs == 1 && run->count == V::kLanes) return Store(row + run->column, x);
  float lanes[V::kLanes];
  Store(lanes, x);
  for (int64_t i = 0; i < vector.runs; ++i) {
    for (int64_t j = 0; j < run[i].count; ++j) row[run[i].column + j] = lanes[run[i].lane + j];
  }
}

// G of the strip: a row of the panel for each channel.
static void FillPanel(const MaamPlan& plan, int64_t rows, const float* planes, float* panel) {
  const int64_t vectors = plan.VectorsOf(rows);
  for (int64_t c = 0; c < plan.groups * kGroup; c += kChannels) {
    for (int64_t v = 0; v < vectors; ++v) {
      V sum[kChannels];
#pragma GCC unroll 8
      for (int i = 0; i < kChannels; ++i) sum[i] = Set(0.0f);
      for (int k = 0; k < plan.p.branches; ++k) {
        const FoldedBranch& branch = plan.branch[k];
        const float* weight = branch.weight + c / kGroup * branch.taps * kGroup + c % kGroup;
        AddBranch(branch, weight, branch.shift + c, planes + plan.Origin() + plan.vector[v].cell, sum);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kChannels; ++i) StoreRuns(plan, plan.vector[v], sum[i], panel + (c + i) * plan.columns);
    }
  }
}

// Takes the rows of the 1x1 convolution to F.
class Finish {
 public:
  Finish(const MaamPlan& plan, int64_t image, int64_t row, int64_t rows)
      : shift_(plan.shift),
        pixels_(plan.pooled_height * plan.pooled_width),
        count_(rows * plan.pooled_width),
        to_(plan.p.f + image * plan.p.outputs * pixels_ + row * plan.pooled_width) {}

  MAAM_MEMBER void Idle() {}
  MAAM_MEMBER void Done(int64_t, int64_t) {}

  template <int kVectors>
  MAAM_MEMBER void Take(int64_t first, int r, int64_t x, const V (&z)[kVectors]) {
    const V shift = Set(shift_[first + r]);
    float* to = to_ + (first + r) * pixels_ + x;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v, to += V::kLanes, x += V::kLanes) {
      const V y = Add(z[v], shift);
      const V f = WherePositive(y, y);
      if (x + V::kLanes <= count_) {
        Store(to, f);
      } else if (x < count_) {
        StoreFirst(to, f, count_ - x);
      }
    }
  }

 private:
  const float* shift_;
  const int64_t pixels_;
  const int64_t count_;
  float* to_;
};

}  // namespace maam_module
}  // namespace MAAM_ISA

void MAAM_VARIANT(maam_inference)(const MaamPlan& plan, int64_t image, int64_t row, int64_t rows, char* scratch) {
  using namespace MAAM_ISA;
  float* planes = reinterpret_cast<float*>(scratch);
  float* panel = reinterpret_cast<float*>(scratch + plan.PanelOffset());
  maam_module::StageStrip(plan, image, row, rows, planes);
  maam_module::FillPanel(plan, rows, planes, panel);
  maam_module::Finish finish(plan, image, row, rows);
  TileProduct<F32>(plan.weight, plan.p.channels, plan.p.outputs, plan.p.channels, panel, plan.columns,
                   RoundUp(rows * plan.pooled_width, F32::kLanes), finish);
}

}  // namespace maam
