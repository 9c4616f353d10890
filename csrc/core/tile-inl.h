// Moves rows of a tile between memory (element type T, images apart) and working memory (compute type, kTile values a
// row). Compiled for each instruction set, see core/simd.h.
#pragma once

#include "core/gemm-inl.h"
#include "core/simd.h"
#include "core/tile.h"

namespace maam {
namespace MAAM_ISA {

// An array of shape (batch, channels, pixels).
template <class T>
struct Images {
  T* data;
  int64_t channels;
  int64_t pixels;
  T* At(const PixelRun& run, int64_t channel) const {
    return data + (run.image * channels + channel) * pixels + run.pixel;
  }
};

// f(i, n) for each vector of `count` elements: n elements from i on, fewer than the vector holds in the last one only.
template <class V, class F>
MAAM_INLINE void ForVectors(int64_t count, F&& f) {
  int64_t i = 0;
  for (; i + V::kLanes <= count; i += V::kLanes) f(i, V::kLanes);
  if (i < count) f(i, count - i);
}

template <class T>
MAAM_INLINE Vec<T> LoadUpTo(const T* p, int64_t n) {
  return n == Vec<T>::kLanes ? Load(p) : LoadFirst(p, n);
}
template <class T>
MAAM_INLINE void StoreUpTo(T* p, Vec<T> x, int64_t n) {
  n == Vec<T>::kLanes ? Store(p, x) : StoreFirst(p, x, n);
}

// Fills a row of working memory with load(run, i, n), the values of n pixels from the i-th of the run on; columns past
// the last pixel become 0. Whole vectors are written, so that zeros may land behind the row: rows are filled in order,
// and the last one has room for a vector behind it.
template <class V, class F>
MAAM_INLINE void FillRow(const Tile& tile, typename V::Element* row, F&& load) {
  for (int64_t r = 0; r < tile.runs; ++r) {
    const PixelRun& run = tile.run[r];
    ForVectors<V>(run.count, [&](int64_t i, int64_t n) { Store(row + run.column + i, load(run, i, n)); });
  }
  for (int64_t x = tile.count; x < kTile; ++x) row[x] = 0;
}

template <class T>
MAAM_INLINE void LoadRow(const Images<const T>& from, const Tile& tile, int64_t channel,
                         typename Vec<T>::Element* row) {
  FillRow<Vec<T>>(tile, row,
                  [&](const PixelRun& run, int64_t i, int64_t n) { return LoadUpTo(from.At(run, channel) + i, n); });
}

template <class T>
MAAM_INLINE void StoreRow(const typename Vec<T>::Element* row, const Tile& tile, int64_t channel, const Images<T>& to) {
  for (int64_t r = 0; r < tile.runs; ++r) {
    const PixelRun& run = tile.run[r];
    T* p = to.At(run, channel);
    ForVectors<Vec<T>>(run.count,
                       [&](int64_t i, int64_t n) { StoreUpTo(p + i, LoadUpTo(row + run.column + i, n), n); });
  }
}

// Brings the rows of the next tile into the L2 cache, one by one, while the product of the present one is computed.
// Measured: without it the multiply-adds stand still for a fifth of the time when operands come from DRAM, and a burst
// of requests stalls them as well.
template <class T>
class FetchAhead {
 public:
  // `idles`: calls of Idle() to come before the tile is wanted.
  FetchAhead(const Tile& next, int64_t idles) : tile_(next), idles_(idles) {}

  void Add(const void* data, int64_t channels, int64_t pixels) {
    arrays_[count_++] = {static_cast<const T*>(data), channels, pixels};
    rows_ += channels;
  }

  MAAM_MEMBER void Idle() {
    due_ += rows_;
    for (; due_ >= idles_ && array_ < count_; due_ -= idles_) FetchRow();
  }

 private:
  static constexpr int kMaxArrays = 10;

  void FetchRow() {
    const Images<const T>& images = arrays_[array_];
    for (int64_t r = 0; r < tile_.runs; ++r) {
      Prefetch(images.At(tile_.run[r], channel_), tile_.run[r].count * static_cast<int64_t>(sizeof(T)));
    }
    if (++channel_ < images.channels) return;
    channel_ = 0;
    ++array_;
  }

  const Tile& tile_;
  const int64_t idles_;
  Images<const T> arrays_[kMaxArrays] = {};
  int count_ = 0;
  int array_ = 0;
  int64_t channel_ = 0;
  int64_t rows_ = 0;
  int64_t due_ = 0;
};

// Takes the rows of a TileProduct to `to`, after transform(row, x, vectors): straight from registers if the tile lies
// within one image, else by way of a buffer. kStream: past the cache, where whole tiles are aligned.
template <bool kStream, class T, class Transform>
class RowWriter {
 public:
  using V = Vec<T>;

  RowWriter(const Tile& tile, const Images<T>& to, Transform& transform, FetchAhead<T>& ahead)
      : tile_(tile), to_(to), transform_(transform), ahead_(ahead), whole_(tile.runs == 1 && tile.count == kTile) {}

  MAAM_MEMBER void Idle() { ahead_.Idle(); }

  template <int kVectors>
  MAAM_MEMBER void Take(int64_t first, int r, int64_t x, V (&vectors)[kVectors]) {
    transform_(first + r, x, vectors);
    if (whole_) {
      T* p = to_.At(tile_.run[0], first + r) + x;
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) Put(p + v * V::kLanes, vectors[v]);
    } else {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) Store(buffer_ + r * kTile + x + v * V::kLanes, vectors[v]);
    }
  }

  void Done(int64_t first, int64_t rows) {
    if (whole_) return;
    for (int64_t r = 0; r < rows; ++r) StoreRow(buffer_ + r * kTile, tile_, first + r, to_);
  }

 private:
  MAAM_MEMBER static void Put(T* p, V x) {
    if constexpr (kStream && CanStream<T>::value) {
      Stream(p, x);
    } else {
      Store(p, x);
    }
  }

  const Tile& tile_;
  const Images<T> to_;
  Transform& transform_;
  FetchAhead<T>& ahead_;
  const bool whole_;
  alignas(64) typename V::Element buffer_[Block<V>::kRows * kTile];
};

}  // namespace MAAM_ISA
}  // namespace maam
