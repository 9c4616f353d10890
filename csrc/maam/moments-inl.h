// Sums of products of shifted channels, written once and compiled for each instruction set.
#pragma once

#include "core/simd.h"
#include "maam/kernels.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_module {

using D = F64;

// Slots whose sums are in registers at a time, in two sets: one alone would wait for its own last product.
constexpr int kSlots = 5;

// The rows of a strip, and those below it that shifts reach, with zeros beside them.
template <class T>
static void StageDoubles(const MomentsPlan& plan, int64_t image, int64_t first, double* staged) {
  for (int64_t i = 0; i < plan.inputs * plan.plane; ++i) staged[i] = 0;
  for (int64_t c = 0; c < plan.inputs; ++c) {
    const T* channel = static_cast<const T*>(plan.x) + (image * plan.inputs + c) * plan.height * plan.width;
    for (int64_t r = 0; r < plan.rows + plan.reach && first + r < plan.height; ++r) {
      const T* from = channel + (first + r) * plan.width;
      double* to = staged + c * plan.plane + r * plan.stride + plan.reach;
      for (int64_t x = 0; x < plan.width; ++x) to[x] = static_cast<double>(ToFloat(from[x]));
    }
  }
}

// A channel's rows, and those of kSlots slots: first pixels of a row.
struct ShiftedRows {
  const double* a;
  const double* b[kSlots];

  ShiftedRows Moved(int64_t by) const {
    ShiftedRows result{a + by, {}};
    for (int i = 0; i < kSlots; ++i) result.b[i] = b[i] + by;
    return result;
  }
};

// Over whole rows. Behind the last pixel of a row a is 0.
MAAM_INLINE void AddRows(const MomentsPlan& plan, const ShiftedRows& from, int64_t rows, D (&even)[kSlots],
                         D (&odd)[kSlots]) {
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t at = y * plan.stride; at < y * plan.stride + plan.width; at += 2 * D::kLanes) {
      const D a0 = Load(from.a + at), a1 = Load(from.a + at + D::kLanes);
#pragma GCC unroll 8
      for (int i = 0; i < kSlots; ++i) even[i] = Fma(a0, Load(from.b[i] + at), even[i]);
#pragma GCC unroll 8
      for (int i = 0; i < kSlots; ++i) odd[i] = Fma(a1, Load(from.b[i] + at + D::kLanes), odd[i]);
    }
  }
}

// Of each of the first columns, a lane each.
MAAM_INLINE void AddColumns(const MomentsPlan& plan, const ShiftedRows& from, int64_t rows, D (&sum)[kSlots]) {
  for (int64_t at = 0; at < rows * plan.stride; at += plan.stride) {
    const D a = Load(from.a + at);
#pragma GCC unroll 8
    for (int i = 0; i < kSlots; ++i) sum[i] = Fma(a, Load(from.b[i] + at), sum[i]);
  }
}

MAAM_INLINE void Clear(D (&sum)[kSlots]) {
#pragma GCC unroll 8
  for (int i = 0; i < kSlots; ++i) sum[i] = Set(0.0);
}

// Strips that are staged one behind the other, counted through the images of a group.
struct StagedStrips {
  const double* staged;
  int64_t first, count;
};

// Calls f(rows to add up, how many) for what each strip has of a band, less rows without any `down` below.
template <class F>
MAAM_INLINE void ForRows(const MomentsPlan& plan, const StagedStrips& strips, int64_t band, int64_t down,
                         const ShiftedRows& from, F&& f) {
  for (int64_t s = 0; s < strips.count; ++s) {
    const int64_t top = (strips.first + s) % plan.strips * plan.rows;
    const int64_t begin = plan.band[band] > top ? plan.band[band] : top;
    int64_t end = plan.band[band + 1] < top + plan.rows ? plan.band[band + 1] : top + plan.rows;
    if (end > plan.height - down) end = plan.height - down;
    if (begin < end) f(from.Moved(s * plan.StripDoubles() + (begin - top) * plan.stride), end - begin);
  }
}

// The cells of a band for `count` slots.
static void AddBand(const MomentsPlan& plan, const StagedStrips& strips, int64_t band, int64_t down,
                    const ShiftedRows& from, int count, double* cell) {
  const int64_t next = plan.bands * plan.Cells();
  D even[kSlots], odd[kSlots];
  Clear(even);
  Clear(odd);
  ForRows(plan, strips, band, down, from,
          [&](const ShiftedRows& rows, int64_t n) { AddRows(plan, rows, n, even, odd); });
  for (int i = 0; i < count; ++i) cell[i * next] += SumLanes(Add(even[i], odd[i]));
  for (int64_t side = 0; side < 2; ++side) {
    for (int64_t j = 0; j < plan.edge; j += D::kLanes) {
      Clear(even);
      ForRows(plan, strips, band, down, from.Moved(j + side * plan.first_of_last),
              [&](const ShiftedRows& rows, int64_t n) { AddColumns(plan, rows, n, even); });
      for (int i = 0; i < count; ++i) {
        double lanes[D::kLanes];
        Store(lanes, even[i]);
        double* to = cell + i * next + 1 + side * plan.edge + j;
        for (int64_t lane = 0; lane < D::kLanes && j + lane < plan.edge; ++lane) to[lane] += lanes[lane];
      }
    }
  }
}

static void AddStrips(const MomentsPlan& plan, const StagedStrips& strips, double* sums) {
  for (int64_t c = 0; c < plan.inputs; ++c) {
    for (int64_t down = 0; down <= plan.reach; ++down) {
      // In a row, a pair of channels is met from the later one alone. Ones are needed once.
      const int64_t end = down == 0 ? plan.Slot(c, plan.reach) + 1 : plan.slots;
      for (int64_t slot = down == 0 ? 0 : 1; slot < end; slot += kSlots) {
        const double* origin = strips.staged + plan.reach;
        ShiftedRows from{origin + c * plan.plane, {}};
        const int count = end - slot < kSlots ? static_cast<int>(end - slot) : kSlots;
        for (int i = 0; i < kSlots; ++i) {
          const int64_t s = slot + (i < count ? i : count - 1);
          const int64_t second = s == 0 ? plan.inputs : (s - 1) / plan.Shifts();
          const int64_t shift = s == 0 ? 0 : (s - 1) % plan.Shifts() - plan.reach;
          from.b[i] = origin + second * plan.plane + down * plan.stride + shift;
        }
        for (int64_t band = 0; band < plan.bands; ++band) {
          AddBand(plan, strips, band, down, from, count, sums + plan.Cell(c, down, slot, band));
        }
      }
    }
  }
}

static void Moments(const MomentsPlan& plan, int64_t begin, int64_t end, double* staged, double* sums) {
  for (int64_t i = 0; i < plan.Sums(); ++i) sums[i] = 0;
  for (int64_t s = 0; s < plan.strips_at_once; ++s) {
    double* ones = staged + s * plan.StripDoubles() + plan.inputs * plan.plane;
    for (int64_t i = 0; i < plan.plane; ++i) ones[i] = 1;
  }
  for (int64_t first = begin * plan.strips; first < end * plan.strips; first += plan.strips_at_once) {
    const int64_t left = end * plan.strips - first;
    const StagedStrips strips{staged, first, left < plan.strips_at_once ? left : plan.strips_at_once};
    for (int64_t s = 0; s < strips.count; ++s) {
      const int64_t image = (first + s) / plan.strips, top = (first + s) % plan.strips * plan.rows;
      WithSingleType(plan.dtype,
                     [&]<class T>(T*) { StageDoubles<T>(plan, image, top, staged + s * plan.StripDoubles()); });
    }
    AddStrips(plan, strips, sums);
  }
}

}  // namespace maam_module
}  // namespace MAAM_ISA
}  // namespace maam
