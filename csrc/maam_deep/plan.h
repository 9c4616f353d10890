// How one call is cut up. A tile of the second convolutions is 2 x 2 pooled pixels.
#pragma once

#include <cstdint>

#include "core/scratch.h"
#include "maam_deep/maam_deep.h"
#include "winograd/strips.h"

namespace maam {

struct DeepBranch {
  FirstPanels first;
  Panels second;
  float* second_scale = nullptr;
};

struct DeepPlan {
  const MaamDeepInference& p;
  int64_t lanes;                        // of a vector
  int64_t pooled_height, pooled_width;  // of an image
  int64_t channels, outputs;            // padded to whole panels
  // With few strips, each makes the panels of the second convolutions itself, one at a time in the L2 cache: to make
  // them all beforehand takes them through memory.
  bool packs_by_strip;
  int64_t wide_depth;  // weights of one output of any convolution with weights of a half type, at most; 0 without
  Strips strips;
  double mix[kMaxBranches];  // softmax(alpha)
  DeepBranch branch[kMaxBranches];
  Panels reduce;

  DeepPlan(const MaamDeepInference& problem, int64_t vector_lanes, int threads);

  // Packing is cut into a task for each vector of outputs of each convolution.
  int64_t PackTasks() const { return (p.branches * (strips.middle + channels) + outputs) / lanes; }
  // Working memory of a packing task: the weights of a vector of outputs, twice where some are of a half type and
  // widened first.
  int64_t PackBytes() const { return PackPart() + RoundUp(wide_depth * lanes * int64_t{sizeof(float)}, kCacheLine); }
  int64_t PackPart() const { return RoundUp(9 * p.middle * lanes * int64_t{sizeof(float)}, kCacheLine); }

  // A worker's working memory in a strip, by offsets into it.
  int64_t patch, map, sums, input, product, panel, total;
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
  int64_t offset_[kMaxBranches], second_scale_[kMaxBranches];
};

// Normalisation times `factor` as y = scale x + shift, for a vector of channels from `first` on, of which `count`
// exist.
void FoldNorm(const ConvNorm& c, double factor, int64_t first, int64_t count, int64_t lanes, float* scale,
              float* shift);

// What a variant implements: one packing task; F of one strip.
using DeepPackKernel = void(const DeepPlan& plan, int64_t task, char* scratch);
using DeepStripKernel = void(const DeepPlan& plan, int64_t strip, char* scratch);

namespace deep_kernels {
using maam_deep_pack = DeepPackKernel;
using maam_deep_inference = DeepStripKernel;
}  // namespace deep_kernels

#define MAAM_KERNEL(kernel, isa) deep_kernels::kernel kernel##_##isa;
#include "maam_deep/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
