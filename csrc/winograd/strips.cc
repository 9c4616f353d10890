#include "winograd/strips.h"

#include <algorithm>

namespace maam {

void Strips::Cut(int64_t most, int64_t tasks) {
  across = CeilDiv(tile_columns, most);
  columns = CeilDiv(tile_columns, across);
  down = CeilDiv(tile_rows, std::clamp<int64_t>(most / columns, 1, tile_rows));
  while (down < tile_rows && batch * PerImage() < tasks) down = std::min(2 * down, tile_rows);
  rows = CeilDiv(tile_rows, down);
  down = CeilDiv(tile_rows, rows);
  tiles = RoundUp(rows * columns, kBlockTiles);
}

void Strips::FillOffsets(int64_t kernel, int64_t* offset) const {
  for (int64_t tap = 0; tap < inputs * kernel * kernel; ++tap) {
    const int64_t y = tap / kernel % kernel - kernel / 2 + border;
    const int64_t x = tap % kernel - kernel / 2 + border;
    offset[tap] = (tap / (kernel * kernel) * PatchRows() + y) * PatchStride() + x;
  }
}

}  // namespace maam
