// Sums of products of taps, written once and compiled for each instruction set.
#pragma once

#include "core/simd.h"
#include "maam/kernels.h"

namespace maam {
namespace MAAM_ISA {
namespace maam_module {

using D = F64;

// Taps by taps whose products are in registers at a time.
constexpr int kSide = kRegisters == 32 ? 4 : 3;

template <class T>
static void StageDoubles(const MomentsPlan& plan, int64_t image, int64_t first, int64_t rows, double* staged) {
  const int64_t edge = plan.kernel / 2;
  for (int64_t i = 0; i < plan.inputs * plan.plane; ++i) staged[i] = 0;
  for (int64_t c = 0; c < plan.inputs; ++c) {
    const T* channel = static_cast<const T*>(plan.x) + (image * plan.inputs + c) * plan.height * plan.width;
    for (int64_t r = 0; r < rows + plan.kernel - 1; ++r) {
      const int64_t y = first + r - edge;
      if (y < 0 || y >= plan.height) continue;
      double* to = staged + c * plan.plane + r * plan.stride + edge;
      for (int64_t x = 0; x < plan.width; ++x) to[x] = static_cast<double>(ToFloat(channel[y * plan.width + x]));
    }
  }
}

// sum[i][j] += a_i b_j over the pixels of the strip. a beyond the end of a row is 0.
MAAM_INLINE void AddProducts(const MomentsPlan& plan, int64_t rows, const double* const (&a)[kSide],
                             const double* const (&b)[kSide], D (&sum)[kSide][kSide]) {
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t x = 0; x < plan.width; x += D::kLanes) {
      const int64_t at = y * plan.stride + x;
      const int64_t left = plan.width - x;
      D va[kSide];
#pragma GCC unroll 4
      for (int i = 0; i < kSide; ++i) va[i] = left >= D::kLanes ? Load(a[i] + at) : LoadFirst(a[i] + at, left);
#pragma GCC unroll 4
      for (int j = 0; j < kSide; ++j) {
        const D vb = Load(b[j] + at);
#pragma GCC unroll 4
        for (int i = 0; i < kSide; ++i) sum[i][j] = Fma(va[i], vb, sum[i][j]);
      }
    }
  }
}

static void AddStrip(const MomentsPlan& plan, int64_t rows, const double* staged, double* products) {
  for (int64_t t = 0; t < plan.taps; t += kSide) {
    const double* a[kSide];
    for (int i = 0; i < kSide; ++i) a[i] = staged + plan.Offset(t + i);
    for (int64_t u = 0; u <= t; u += kSide) {
      const double* b[kSide];
      for (int j = 0; j < kSide; ++j) b[j] = staged + plan.Offset(u + j);
      D sum[kSide][kSide];
#pragma GCC unroll 4
      for (int i = 0; i < kSide; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < kSide; ++j) sum[i][j] = Set(0.0);
      }
      AddProducts(plan, rows, a, b, sum);
#pragma GCC unroll 4
      for (int i = 0; i < kSide; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < kSide; ++j) products[(t + i) * plan.padded + u + j] += SumLanes(sum[i][j]);
      }
    }
  }
}

static void Moments(const MomentsPlan& plan, int64_t begin, int64_t end, double* staged, double* products) {
  for (int64_t i = 0; i < plan.plane; ++i) staged[plan.inputs * plan.plane + i] = 1;
  for (int64_t i = 0; i < plan.Products(); ++i) products[i] = 0;
  for (int64_t image = begin; image < end; ++image) {
    for (int64_t first = 0; first < plan.height; first += plan.rows) {
      const int64_t rows = plan.height - first < plan.rows ? plan.height - first : plan.rows;
      WithSingleType(plan.dtype, [&]<class T>(T*) { StageDoubles<T>(plan, image, first, rows, staged); });
      AddStrip(plan, rows, staged, products);
    }
  }
}

}  // namespace maam_module
}  // namespace MAAM_ISA
}  // namespace maam
