// Tiles of kTile pixels of an array of shape (batch, channels, pixels). Pixels are numbered through the whole batch, so
// that a tile may begin in one image and end in another: 7x7 images fill tiles as well as 16x16 ones.
#pragma once

#include <cstdint>

namespace maam {

constexpr int64_t kTile = 64;

// Neighbouring pixels of one image.
struct PixelRun {
  int64_t image;
  int64_t pixel;
  int64_t column;  // where they stand in the tile
  int64_t count;
};

struct Tile {
  int64_t count = 0;  // pixels: kTile, or fewer in the last tile
  int64_t runs = 0;
  PixelRun run[kTile];
};

// How the pixels of a batch are cut into tiles: the first `lead` of them form a shorter tile.
struct Tiling {
  int64_t batch;
  int64_t pixels;  // of one image
  int64_t lead = 0;

  int64_t Count() const {
    const int64_t total = batch * pixels;
    return lead < total ? (lead > 0) + (total - lead + kTile - 1) / kTile : total > 0;
  }
};

static inline void FindTile(const Tiling& tiling, int64_t index, Tile* tile) {
  const int64_t total = tiling.batch * tiling.pixels;
  const int64_t full = tiling.lead > 0 ? index - 1 : index;  // tiles of kTile pixels before this one
  const int64_t begin = full < 0 ? 0 : tiling.lead + full * kTile;
  const int64_t limit = full < 0 ? tiling.lead : begin + kTile;
  tile->count = (limit < total ? limit : total) - begin;
  tile->runs = 0;
  int64_t image = begin / tiling.pixels;
  int64_t pixel = begin % tiling.pixels;
  for (int64_t column = 0; column < tile->count; ++image, pixel = 0) {
    const int64_t rest = tile->count - column;
    const int64_t count = tiling.pixels - pixel < rest ? tiling.pixels - pixel : rest;
    tile->run[tile->runs++] = {image, pixel, column, count};
    column += count;
  }
}

}  // namespace maam
