// What all reduce kernels begin with: G of one tile in the cache. Compiled for each instruction set.
#pragma once

#include "core/tile-inl.h"
#include "reduce/kernels.h"

namespace maam {
namespace MAAM_ISA {
namespace reduce {

// Calls f with the number of branches as a compile-time constant.
template <int kBranches = 1, class F>
MAAM_INLINE void WithBranches(int branches, F&& f) {
  if constexpr (kBranches <= kMaxBranches) {
    if (branches == kBranches) return f.template operator()<kBranches>();
    WithBranches<kBranches + 1>(branches, f);
  }
}

template <class T, int kBranches>
static void StageBranches(const ReduceTask& p, const Tile& tile, typename Vec<T>::Element* panel) {
  using V = Vec<T>;
  V mix[kBranches];
  for (int k = 0; k < kBranches; ++k) mix[k] = Set(static_cast<typename V::Element>(p.mix[k]));
  for (int64_t c = 0; c < p.inputs; ++c) {
    FillRow<V>(tile, panel + c * kTile, [&](const PixelRun& run, int64_t i, int64_t n) {
      const int64_t at = (run.image * p.inputs + c) * p.pixels + run.pixel + i;
      V sum = LoadUpTo(static_cast<const T*>(p.a[0]) + at, n);
      if constexpr (kBranches > 1) sum = Mul(mix[0], sum);
      for (int k = 1; k < kBranches; ++k) sum = Fma(mix[k], LoadUpTo(static_cast<const T*>(p.a[k]) + at, n), sum);
      return sum;
    });
  }
}

// panel[c] = channel c of G, in rows of kTile pixels; of the single branch, or summed up from several.
template <class T>
MAAM_INLINE void StagePanel(const ReduceTask& p, const Tile& tile, typename Vec<T>::Element* panel) {
  WithBranches(p.branches, [&]<int kBranches>() { StageBranches<T, kBranches>(p, tile, panel); });
}

// gamma (z - mean) rstd + beta before the ReLU, by channel; forward and backward must agree on its sign bit for bit.
template <class V>
struct Affine {
  using E = typename V::Element;
  V center, scale, shift;

  Affine(const ReduceTask& p, int64_t o)
      : center(Set(static_cast<const E*>(p.mean)[o])),
        scale(Set(static_cast<const E*>(p.scale)[o])),
        shift(Set(static_cast<const E*>(p.beta)[o])) {}

  MAAM_MEMBER V operator()(V z) const { return Fma(Sub(z, center), scale, shift); }
};

}  // namespace reduce
}  // namespace MAAM_ISA
}  // namespace maam
