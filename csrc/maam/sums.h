// How the backward adds up gradients times pixels. Most of the sums' terms are zero: pooling passes a gradient on to
// one pixel of four at most, ReLU and the layers behind to fewer. So a tile's gradients are first listed, for a
// channel at a time, and then each one is multiplied with the patch of its pixel. The tile is staged pixel by pixel,
// the input channels of a pixel side by side, so that a row of a patch is contiguous: vectors run over its taps.
#pragma once

#include <vector>

#include "maam/plan.h"

namespace maam {

// Where the sums of a branch's channel stand: its taps as in the weights, then the sum of the gradients.
inline int64_t SumsRow(const MaamInference& p, int branch, int64_t channel) {
  int64_t row = 0;
  for (int k = 0; k < branch; ++k) row += p.channels * (p.inputs * p.branch[k].kernel * p.branch[k].kernel + 1);
  return row + channel * (p.inputs * p.branch[branch].kernel * p.branch[branch].kernel + 1);
}

struct SumsPlan {
  const MaamInference& p;
  int64_t lanes;
  int64_t edge;           // of the largest kernel
  int64_t rows, columns;  // pooled pixels of a tile: whole rows, or part of one
  int64_t down, across;   // tiles of an image
  int64_t stride;         // of a staged row
  int64_t listed;         // gradients of a tile and channel at most, in whole vectors, and a vector

  // Of a branch: the vectors that its patches are read in, and whose sums they are.
  struct Patch {
    int64_t vectors;
    const int64_t* step;  // from the first pixel of the patch
    const int64_t* tap;   // by vector and lane: as in the weights, or kNoTap
  };
  static constexpr int64_t kNoTap = -1;
  Patch patch[kMaxBranches];
  const int32_t* place;       // of the tile's pooled pixels: the first of the four, and behind the last one zeros
  int32_t within[kMaxLanes];  // from there to each of the four

  SumsPlan(const MaamInference& problem, int64_t lanes_of_variant);
  SumsPlan(const SumsPlan&) = delete;

  int64_t Sums() const { return SumsRow(p, p.branches - 1, p.channels); }

  // A vector that begins at the last taps of a patch reads as far behind it.
  int64_t StagedFloats() const { return (2 * rows + 2 * edge) * stride + lanes; }

  // A worker's working memory: the staged tile, the list's places and gradients, and sums in lanes, for each branch
  // and channel those of its patch and that of the gradients.
  int64_t PlaceOffset() const { return RoundUp(StagedFloats() * int64_t{sizeof(float)}, kCacheLine); }
  int64_t GradientOffset() const { return PlaceOffset() + RoundUp(listed * int64_t{sizeof(int32_t)}, kCacheLine); }
  int64_t LanesOffset() const { return GradientOffset() + RoundUp(listed * int64_t{sizeof(float)}, kCacheLine); }
  int64_t LaneVectors() const;
  int64_t WorkerBytes() const {
    return LanesOffset() + RoundUp(LaneVectors() * lanes * int64_t{sizeof(float)}, kCacheLine);
  }

 private:
  std::vector<int64_t> step_[kMaxBranches], tap_[kMaxBranches];
  std::vector<int32_t> place_;
};

}  // namespace maam
