// How one call is cut up: tiles of 4 x 4 pixels of the second convolutions, which are 2 x 2 pooled ones, and strips of
// tiles whose intermediate results fit into the L2 cache together.
#pragma once

#include <cstdint>

#include "core/scratch.h"
#include "maam_deep/maam_deep.h"

namespace maam {

// Weights as the kernel reads them: panels (core/panel-inl.h), of the second convolution one for each frequency, and a
// shift for each output, padded to whole panels.
struct DeepPanels {
  float* weight = nullptr;
  float* shift = nullptr;
};

struct DeepBranch {
  int64_t taps = 0;
  DeepPanels first, second;
  int64_t* offset = nullptr;  // of each tap from the first one's pixel in the patch
};

struct DeepPlan {
  const MaamDeepInference& p;
  int64_t lanes;                                 // of a vector
  int64_t pooled_height, pooled_width;           // of an image
  int64_t tile_rows, tile_columns;               // of an image
  int64_t rows, columns;                         // of a strip, in tiles; less at the lower and right edge
  int64_t strips_down, strips_across;            // of an image
  int64_t tiles;                                 // of a strip, padded to whole blocks
  int64_t middle, channels, outputs;             // padded to whole panels
  int64_t border;                                // pixels around a patch that taps of the first convolutions reach
  int64_t patch_stride, patch_rows, map_stride;  // of the strip's input, and of the first convolution's result
  double mix[kMaxBranches];                      // softmax(alpha)
  DeepBranch branch[kMaxBranches];
  DeepPanels reduce;

  DeepPlan(const MaamDeepInference& problem, int64_t vector_lanes, int threads);

  int64_t Columns() const { return 2 * lanes; }  // of a panel
  int64_t Strips() const { return strips_down * strips_across; }
  int64_t MapRows() const { return 4 * rows + 2; }  // the tiles and the pixels around them
  int64_t MapColumns() const { return 4 * columns + 2; }
  // Floats from one frequency of the transformed input to the next. Not a power of two: stores to all of them would
  // fall into one set of the L1 cache.
  int64_t FrequencyStride() const { return tiles * middle + 16; }
  // Packing is cut into a task for each vector of outputs of each convolution.
  int64_t PackTasks() const { return (p.branches * (middle + channels) + outputs) / lanes; }

  // Working memory of a packing task: a vector of a second convolution's weights, and scales.
  int64_t PackBytes() const { return RoundUp((9 * p.middle + 1) * lanes * int64_t{sizeof(float)}, kCacheLine); }

  // A worker's working memory in a strip, by offsets into it.
  int64_t patch, map, sums, input, product, total;
};

// The tables and panels of a plan, in working memory of its own. Panels are filled by the packing tasks.
class DeepTables {
 public:
  explicit DeepTables(const DeepPlan& plan);
  int64_t Bytes() const { return layout_.Total(); }
  void Place(char* memory, DeepPlan* plan) const;

 private:
  struct Offsets {
    int64_t weight, shift;
  };
  Offsets Take(int64_t outputs, int64_t depth);

  ScratchLayout layout_;
  Offsets first_[kMaxBranches], second_[kMaxBranches], reduce_;
  int64_t offset_[kMaxBranches];
};

// Normalisation times `factor` as y = scale x + shift, for a vector of channels from `first` on, of which `count`
// exist.
void FoldNorm(const ConvNorm& c, double factor, int64_t first, int64_t count, int64_t lanes, float* scale,
              float* shift);

// What a variant implements: one packing task; F of one strip of an image.
using DeepPackKernel = void(const DeepPlan& plan, int64_t task, char* scratch);
using DeepStripKernel = void(const DeepPlan& plan, int64_t image, int64_t strip, char* scratch);

namespace deep_kernels {
using maam_deep_pack = DeepPackKernel;
using maam_deep_inference = DeepStripKernel;
}  // namespace deep_kernels

#define MAAM_KERNEL(kernel, isa) deep_kernels::kernel kernel##_##isa;
#include "maam_deep/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
