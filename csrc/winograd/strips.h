// How images are cut for a k x k convolution that is followed by a 3 x 3 one by F(4x4, 3x3): into tiles of 4 x 4 pixels
// of the latter's result, and strips of tiles whose intermediate results fit into the L2 cache together. What operators
// with such pairs of convolutions share.
#pragma once

#include <cstdint>

#include "core/ceil_div.h"
#include "core/scratch.h"

namespace maam {

constexpr int64_t kWinogradFrequencies = 36;
constexpr int64_t kBlockTiles = 8;  // of any variant's block of rows (core/panel-inl.h), or a multiple of it

// Weights as kernels read them: panels (core/panel-inl.h), and a shift for each output, padded to whole panels.
struct Panels {
  float* weight = nullptr;
  float* shift = nullptr;
};

// The k x k convolution: offset[tap] from a pixel of the patch to the one that tap takes.
struct FirstPanels : Panels {
  int64_t taps = 0;
  int64_t* offset = nullptr;
};

struct Strips {
  int64_t batch = 0, inputs = 0, height = 0, width = 0;  // of the images
  int64_t middle = 0;                                    // channels between the convolutions, padded to whole panels
  int64_t border = 0;                       // pixels around the map that the first convolution's taps reach
  int64_t tile_rows = 0, tile_columns = 0;  // of an image
  int64_t rows = 0, columns = 0;            // of a strip, in tiles; less at the lower and right edge
  int64_t down = 0, across = 0;             // strips of an image
  int64_t tiles = 0;                        // of a strip, padded to whole blocks

  // At most about `most` tiles a strip; rows of strips are cut finer until there are `tasks` strips. The arithmetic of
  // a tile does not depend on the strip it lies in.
  void Cut(int64_t most, int64_t tasks);
  void FillOffsets(int64_t kernel, int64_t* offset) const;

  int64_t PerImage() const { return down * across; }
  int64_t Count() const { return batch * PerImage(); }

  // The map, the first convolution's result: the pixels of the tiles and one more around them. A block of pixels may
  // reach behind a short row.
  int64_t MapRows() const { return 4 * rows + 2; }
  int64_t MapStride() const { return 4 * columns + 2 + kBlockTiles; }
  int64_t MapSize() const { return middle * MapRows() * MapStride(); }
  // The patch, the part of the image that the map is made from.
  int64_t PatchRows() const { return MapRows() + 2 * border; }
  int64_t PatchStride() const { return MapStride() + 2 * border; }
  int64_t PatchSize() const { return inputs * PatchRows() * PatchStride(); }
  // Floats from one frequency of transformed channels to the next. Not a power of two: stores to all of them would fall
  // into one set of the L1 cache.
  int64_t FrequencyStride(int64_t channels) const { return tiles * channels + 16; }
};

// One strip, in tiles of its image.
struct Strip {
  int64_t image, top, left, rows, columns;
  int64_t Tiles() const { return rows * columns; }
};

static inline Strip StripAt(const Strips& all, int64_t index) {
  Strip s;
  s.image = index / all.PerImage();
  s.top = index % all.PerImage() / all.across * all.rows;
  s.left = index % all.PerImage() % all.across * all.columns;
  s.rows = all.tile_rows - s.top < all.rows ? all.tile_rows - s.top : all.rows;
  s.columns = all.tile_columns - s.left < all.columns ? all.tile_columns - s.left : all.columns;
  return s;
}

}  // namespace maam
