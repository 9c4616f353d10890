// Forward kernels, written once and compiled for each instruction set.
#pragma once

#include "reduce/stage-inl.h"

namespace maam {
namespace MAAM_ISA {
namespace reduce {

// Z of tiles [begin, end) through `transform` to `to`. transform.Begin(t, tile) precedes each tile, and
// transform.End(t, tile) follows it.
template <bool kStream, class T, class Transform>
MAAM_INLINE void Project(const ReduceTask& p, int64_t begin, int64_t end, char* scratch, void* to,
                         Transform& transform) {
  using V = Vec<T>;
  using E = typename V::Element;
  E* panel = reinterpret_cast<E*>(scratch + ForwardLayout(p).panel);
  const Images<T> images{static_cast<T*>(to), p.outputs, p.pixels};
  Tile tiles[2];
  if (begin < end) FindTile(p.tiling, begin, &tiles[begin % 2]);
  for (int64_t t = begin; t < end; ++t) {
    const Tile& tile = tiles[t % 2];
    Tile& next = tiles[(t + 1) % 2];
    StagePanel<T>(p, tile, panel);
    FetchAhead<T> ahead(next, IdlesOf<V>(p.outputs, p.inputs));
    if (t + 1 < end) {
      FindTile(p.tiling, t + 1, &next);
      for (int k = 0; k < p.branches; ++k) ahead.Add(p.a[k], p.inputs, p.pixels);
    }
    transform.Begin(t, tile);
    RowWriter<kStream, T, Transform> writer(tile, images, transform, ahead);
    TileProduct<V>(static_cast<const E*>(p.rows), p.inputs, p.outputs, p.inputs, panel, kTile, kTile, writer);
    transform.End(t, tile);
  }
  if constexpr (kStream) FenceStreams();
}

template <class V>
struct Activate {
  const ReduceTask& p;

  void Begin(int64_t, const Tile&) {}
  void End(int64_t, const Tile&) {}

  template <int kVectors>
  MAAM_MEMBER void operator()(int64_t o, int64_t, V (&z)[kVectors]) const {
    const Affine<V> affine(p, o);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) z[v] = Relu(affine(z[v]));
  }
};

template <bool kStream, class T>
static void Infer(const ReduceTask& p, int64_t begin, int64_t end, char* scratch) {
  Activate<Vec<T>> activate{p};
  Project<kStream, T>(p, begin, end, scratch, p.f, activate);
}

// Gathers the moments of Z before it is rounded to its type. Lanes add deviations from a pivot, the mean of the first
// vector that the channel met, so that a mean far from 0 costs no digits; every kSpan tiles they go into the double
// results.
template <class V>
class Measure {
 public:
  using E = typename V::Element;

  Measure(const ReduceTask& p, int64_t begin, int64_t end, char* scratch, Moments* moments)
      : outputs_(p.outputs), begin_(begin), end_(end), moments_(moments) {
    const ForwardLayout layout(p);
    sums_ = reinterpret_cast<E*>(scratch + layout.sums);
    pivots_ = reinterpret_cast<E*>(scratch + layout.pivots);
    for (int64_t o = 0; o < outputs_; ++o) moments_[o] = {};
  }

  void Begin(int64_t t, const Tile& tile) {
    fresh_ = (t - begin_) % kSpan == 0;
    if (fresh_) span_ = 0;
    span_ += tile.count;
    tile_count_ = tile.count;
    lanes_filled_ = tile.count < V::kLanes ? tile.count : V::kLanes;  // the others hold 0
  }

  template <int kVectors>
  MAAM_MEMBER void operator()(int64_t o, int64_t x, V (&z)[kVectors]) {
    E* sums = sums_ + o * 2 * V::kLanes;
    const bool first = fresh_ && x == 0;
    if (first) pivots_[o] = static_cast<E>(SumLanes(z[0]) / static_cast<double>(lanes_filled_));
    const V pivot = Set(pivots_[o]);
    V sum = first ? Set(E(0)) : Load(sums);
    V squares = first ? Set(E(0)) : Load(sums + V::kLanes);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      V d = Sub(z[v], pivot);
      if (tile_count_ < kTile) d = Existing(d, tile_count_ - x - v * V::kLanes);
      sum = Add(sum, d);
      squares = Fma(d, d, squares);
    }
    Store(sums, sum);
    Store(sums + V::kLanes, squares);
  }

  void End(int64_t t, const Tile&) {
    if (t + 1 < end_ && (t + 1 - begin_) % kSpan != 0) return;
    const double n = static_cast<double>(span_);
    const double before = static_cast<double>(count_);
    for (int64_t o = 0; o < outputs_; ++o) {
      const double sum = SumLanes(Load(sums_ + o * 2 * V::kLanes));
      const double squares = SumLanes(Load(sums_ + (o * 2 + 1) * V::kLanes)) - sum * sum / n;
      Moments& m = moments_[o];
      const double delta = static_cast<double>(pivots_[o]) + sum / n - m.mean;
      m.mean += delta * (n / (before + n));
      m.squares += (squares < 0 ? 0 : squares) + delta * delta * (before * n / (before + n));
    }
    count_ += span_;
  }

 private:
  static constexpr int64_t kSpan = 16;

  static V Existing(V d, int64_t n) {
    if (n >= V::kLanes) return d;
    E lanes[V::kLanes];
    Store(lanes, d);
    return LoadFirst(lanes, n < 0 ? 0 : n);
  }

  const int64_t outputs_, begin_, end_;
  Moments* const moments_;
  E* sums_;
  E* pivots_;
  bool fresh_ = false;
  int64_t tile_count_ = 0;
  int64_t lanes_filled_ = 0;
  int64_t span_ = 0;   // pixels in the lanes
  int64_t count_ = 0;  // pixels in the results
};

template <class T>
static void ProjectAndMeasure(const ReduceTask& p, int64_t begin, int64_t end, char* scratch, Moments* moments) {
  Measure<Vec<T>> measure(p, begin, end, scratch, moments);
  Project<false, T>(p, begin, end, scratch, p.z, measure);
}

template <class T>
static void Normalize(const ReduceTask& p, int64_t begin, int64_t end) {
  using V = Vec<T>;
  for (int64_t row = begin; row < end; ++row) {
    const Affine<V> affine(p, row % p.outputs);
    const T* z = static_cast<const T*>(p.z) + row * p.pixels;
    T* f = static_cast<T*>(p.f) + row * p.pixels;
    ForVectors<V>(p.pixels, [&](int64_t i, int64_t n) { StoreUpTo(f + i, Relu(affine(LoadUpTo(z + i, n))), n); });
  }
}

template <class From, class To>
static void ConvertWeights(const ReduceOperands& p, To* rows, To* columns) {
  const From* weight = static_cast<const From*>(p.weight);
  ForVectors<Vec<From>>(p.outputs * p.inputs,
                        [&](int64_t i, int64_t n) { StoreUpTo(rows + i, LoadUpTo(weight + i, n), n); });
  if (columns == nullptr) return;
  constexpr int64_t kSquare = 32;  // both sides of a square stay in the L1 cache
  for (int64_t o0 = 0; o0 < p.outputs; o0 += kSquare) {
    for (int64_t c0 = 0; c0 < p.inputs; c0 += kSquare) {
      for (int64_t c = c0; c < p.inputs && c < c0 + kSquare; ++c) {
        for (int64_t o = o0; o < p.outputs && o < o0 + kSquare; ++o)
          columns[c * p.outputs + o] = rows[o * p.inputs + c];
      }
    }
  }
}

}  // namespace reduce
}  // namespace MAAM_ISA
}  // namespace maam
