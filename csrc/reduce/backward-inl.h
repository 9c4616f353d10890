// Backward kernels, written once and compiled for each instruction set.
#pragma once

#include "reduce/stage-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace reduce {

// Two sums a channel, in lanes.
template <class V>
struct LaneSums {
  V dy, dyz;

  MAAM_MEMBER void Clear() { dy = dyz = Set(typename V::Element(0)); }
  // dY where y > 0, added up together with dY (z - mean).
  MAAM_MEMBER V Add(const Affine<V>& affine, V z, V df) {
    const V d = WherePositive(affine(z), df);
    dy = MAAM_ISA::Add(dy, d);
    dyz = Fma(d, Sub(z, affine.center), dyz);
    return d;
  }
  MAAM_MEMBER void AddTo(GradientSums* sums) const {
    sums->dy += SumLanes(dy);
    sums->dyz += SumLanes(dyz);
  }
};

template <class T>
static void SumRows(const ReduceTask& p, int64_t image, int64_t end_image, int64_t channel, int64_t end_channel,
                    GradientSums* sums) {
  using V = Vec<T>;
  constexpr int64_t kSpan = 16;  // images whose sums stay in the lanes, in float32
  for (int64_t o = channel; o < end_channel; ++o) {
    const Affine<V> affine(p, o);
    sums[o] = {};
    for (int64_t first = image; first < end_image; first += kSpan) {
      LaneSums<V> lanes;
      lanes.Clear();
      for (int64_t b = first; b < end_image && b < first + kSpan; ++b) {
        const int64_t at = (b * p.outputs + o) * p.pixels;
        const T* z = static_cast<const T*>(p.z) + at;
        const T* df = static_cast<const T*>(p.df) + at;
        ForVectors<V>(p.pixels,
                      [&](int64_t i, int64_t n) { lanes.Add(affine, LoadUpTo(z + i, n), LoadUpTo(df + i, n)); });
      }
      lanes.AddTo(&sums[o]);
    }
  }
}

// dz holds dF on entry, row by row, and dZ on return. Training: Z is read, and the sums over the batch are known.
template <class T>
static void StageFromZ(const ReduceTask& p, const Tile& tile, typename Vec<T>::Element* dz) {
  using V = Vec<T>;
  using E = typename V::Element;
  const Images<const T> images{static_cast<const T*>(p.z), p.outputs, p.pixels};
  alignas(64) E row[kTile + V::kLanes];
  for (int64_t o = 0; o < p.outputs; ++o, dz += kTile) {
    LoadRow(images, tile, o, row);
    const Affine<V> affine(p, o);
    const V z_factor = Set(static_cast<const E*>(p.z_factor)[o]);
    const V offset = Set(static_cast<const E*>(p.offset)[o]);
    for (int64_t x = 0; x < kTile; x += V::kLanes) {
      const V z = Load(row + x);
      const V dy = WherePositive(affine(z), Load(dz + x));
      Store(dz + x, Fma(affine.scale, dy, Fma(z_factor, Sub(z, affine.center), offset)));
    }
  }
}

// The same with frozen statistics: takes the product Z, and gathers the sums. Columns past the last pixel add nothing,
// because dF is 0 there.
template <class V>
struct StageFromProduct {
  using E = typename V::Element;
  const ReduceTask& p;
  E* dz;
  LaneSums<V>* sums;

  MAAM_MEMBER void Idle() {}
  void Done(int64_t, int64_t) {}

  template <int kVectors>
  MAAM_MEMBER void Take(int64_t first, int r, int64_t x, V (&z)[kVectors]) {
    const Affine<V> affine(p, first + r);
    LaneSums<V> lanes = sums[first + r];
    E* row = dz + (first + r) * kTile + x;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const V dy = lanes.Add(affine, z[v], Load(row + v * V::kLanes));
      Store(row + v * V::kLanes, Mul(affine.scale, dy));
    }
    sums[first + r] = lanes;
  }
};

// Takes rows of dG = W^T dZ: writes dA_i = mix_i dG, and adds up <dG, A_i> for several branches.
template <class T, int kBranches>
class BranchWriter {
 public:
  using V = Vec<T>;
  using E = typename V::Element;

  BranchWriter(const ReduceTask& p, const Tile& tile, FetchAhead<T>& ahead) : p_(p), tile_(tile), ahead_(ahead) {
    for (int k = 0; k < kBranches; ++k) {
      mix_[k] = Set(static_cast<E>(p.mix[k]));
      dots_[k] = Set(E(0));
    }
  }

  MAAM_MEMBER void Idle() { ahead_.Idle(); }

  template <int kVectors>
  MAAM_MEMBER void Take(int64_t, int r, int64_t x, V (&dg)[kVectors]) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Store(buffer_ + r * kTile + x + v * V::kLanes, dg[v]);
  }

  void Done(int64_t first, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < tile_.runs; ++i) WriteRun(first + r, tile_.run[i], buffer_ + r * kTile);
    }
  }

  void AddDotsTo(double* dots) const {
    for (int k = 0; k < kBranches; ++k) dots[k] += SumLanes(dots_[k]);
  }

 private:
  MAAM_MEMBER void WriteRun(int64_t c, const PixelRun& run, const E* row) {
    const int64_t at = (run.image * p_.inputs + c) * p_.pixels + run.pixel;
    ForVectors<V>(run.count, [&](int64_t i, int64_t n) {
      const V dg = LoadUpTo(row + run.column + i, n);
      for (int k = 0; k < kBranches; ++k) {
        T* da = static_cast<T*>(p_.da[k]) + at + i;
        if constexpr (kBranches == 1) {
          StoreUpTo(da, dg, n);
        } else {
          StoreUpTo(da, Mul(mix_[k], dg), n);
          dots_[k] = Fma(dg, LoadUpTo(static_cast<const T*>(p_.a[k]) + at + i, n), dots_[k]);
        }
      }
    });
  }

  const ReduceTask& p_;
  const Tile& tile_;
  FetchAhead<T>& ahead_;
  V mix_[kBranches], dots_[kBranches];
  alignas(64) E buffer_[Block<V>::kRows * kTile];
};

// Adds the rows of a product to a matrix.
template <class V>
struct Accumulate {
  typename V::Element* to;
  int64_t stride;

  MAAM_MEMBER void Idle() {}
  void Done(int64_t, int64_t) {}

  template <int kVectors>
  MAAM_MEMBER void Take(int64_t first, int r, int64_t x, V (&sum)[kVectors]) {
    typename V::Element* p = to + (first + r) * stride + x;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Store(p + v * V::kLanes, Add(Load(p + v * V::kLanes), sum[v]));
  }
};

// dW += dZ G^T for one tile; the pixels are the depth of this product, so G is turned over first.
template <class V>
static void AddWeightGradient(const ReduceTask& p, const BackwardLayout& layout, char* scratch,
                              typename V::Element* dweight) {
  using E = typename V::Element;
  const E* panel = reinterpret_cast<const E*>(scratch + layout.panel);
  E* transposed = reinterpret_cast<E*>(scratch + layout.transposed);
  const int64_t stride = layout.padded_inputs;
  for (int64_t c = 0; c < stride; c += V::kLanes) {
    for (int64_t x = 0; x < kTile; x += V::kLanes) {
      TransposeSquare<V>(panel + c * kTile + x, kTile, transposed + x * stride + c, stride);
    }
  }
  const E* dz = reinterpret_cast<const E*>(scratch + layout.dz);
  for (int64_t c = 0; c < stride; c += kTile) {
    Accumulate<V> accumulate{dweight + c, stride};
    const int64_t columns = stride - c < kTile ? stride - c : kTile;
    TileProduct<V>(dz, kTile, p.outputs, kTile, transposed + c, stride, columns, accumulate);
  }
}

template <class T, int kBranches>
static void GradientOf(const ReduceTask& p, int64_t begin, int64_t end, char* scratch,
                       typename Vec<T>::Element* dweight, double* dots, GradientSums* sums) {
  using V = Vec<T>;
  using E = typename V::Element;
  constexpr int64_t kSpan = 16;  // tiles whose sums stay in the lanes
  const BackwardLayout layout(p);
  E* panel = reinterpret_cast<E*>(scratch + layout.panel);
  E* dz = reinterpret_cast<E*>(scratch + layout.dz);
  LaneSums<V>* lanes = reinterpret_cast<LaneSums<V>*>(scratch + layout.sums);
  const Images<const T> df{static_cast<const T*>(p.df), p.outputs, p.pixels};
  // Rows of the panel that pad it to whole vectors of channels are turned over, too.
  for (int64_t i = p.inputs * kTile; i < layout.padded_inputs * kTile; ++i) panel[i] = 0;
  for (int64_t i = 0; i < p.outputs * layout.padded_inputs; ++i) dweight[i] = 0;
  for (int k = 0; k < kBranches; ++k) dots[k] = 0;
  for (int64_t o = 0; o < p.outputs; ++o) sums[o] = {};
  Tile tiles[2];
  if (begin < end) FindTile(p.tiling, begin, &tiles[begin % 2]);
  for (int64_t t = begin; t < end; ++t) {
    const Tile& tile = tiles[t % 2];
    Tile& next = tiles[(t + 1) % 2];
    FetchAhead<T> ahead(next, IdlesOf<V>(p.inputs, p.outputs));
    if (t + 1 < end) {
      FindTile(p.tiling, t + 1, &next);
      for (int k = 0; k < kBranches; ++k) ahead.Add(p.a[k], p.inputs, p.pixels);
      ahead.Add(p.df, p.outputs, p.pixels);
      if (p.z != nullptr) ahead.Add(p.z, p.outputs, p.pixels);
    }
    StageBranches<T, kBranches>(p, tile, panel);
    for (int64_t o = 0; o < p.outputs; ++o) LoadRow(df, tile, o, dz + o * kTile);
    if (p.z != nullptr) {
      StageFromZ<T>(p, tile, dz);
    } else {
      if ((t - begin) % kSpan == 0) {
        for (int64_t o = 0; o < p.outputs; ++o) lanes[o].Clear();
      }
      StageFromProduct<V> stage{p, dz, lanes};
      TileProduct<V>(static_cast<const E*>(p.rows), p.inputs, p.outputs, p.inputs, panel, kTile, kTile, stage);
      if ((t + 1 - begin) % kSpan == 0 || t + 1 == end) {
        for (int64_t o = 0; o < p.outputs; ++o) lanes[o].AddTo(&sums[o]);
      }
    }
    BranchWriter<T, kBranches> writer(p, tile, ahead);
    TileProduct<V>(static_cast<const E*>(p.columns), p.outputs, p.inputs, p.outputs, dz, kTile, kTile, writer);
    if constexpr (kBranches > 1) writer.AddDotsTo(dots);
    AddWeightGradient<V>(p, layout, scratch, dweight);
  }
}

template <class T>
static void Gradient(const ReduceTask& p, int64_t begin, int64_t end, char* scratch, typename Vec<T>::Element* dweight,
                     double* dots, GradientSums* sums) {
  WithBranches(p.branches,
               [&]<int kBranches>() { GradientOf<T, kBranches>(p, begin, end, scratch, dweight, dots, sums); });
}

}  // namespace reduce
}  // namespace MAAM_ISA
}  // namespace maam
