// How a call is cut up, its tables in working memory, and what a variant implements.
#pragma once

#include <cstdint>

#include "agent_block/agent_block.h"
#include "core/scratch.h"
#include "winograd/training.h"

namespace maam {

// The second convolution and its normalisation are those of WinogradTraining.
struct BlockPlan : WinogradTraining {
  const AgentBlock& p;
  const AgentBlockSaved& saved;

  // Tables, see BlockTables.
  FirstPanels first;  // raw, or with scale and shift of its normalisation
  BatchNormVectors first_norm;
  float* taps_sums = nullptr;   // (groups, taps + 1, middle): by tap; in the last row the plain sum
  float* patch_sums = nullptr;  // (groups, taps)
  float* by_tap = nullptr;      // the first convolution's weights in panels (middle, taps)
  float* dx = nullptr;

  BlockPlan(const AgentBlock& problem, const AgentBlockSaved& with, int64_t vector_lanes);

  // dX of an image with the pixels that taps reach beyond it.
  int64_t BorderedStride() const { return p.width + 2 * strips.border; }
  int64_t BorderedSize() const { return p.inputs * (p.height + 2 * strips.border) * BorderedStride(); }

  // A worker's working memory in a strip, by offsets into it.
  int64_t bordered, patch, map, gradient, input, product, total;
};

enum class BlockPass { kForward, kBackward, kInputGradient };

// What a kind of call keeps in working memory.
class BlockTables {
 public:
  BlockTables(const BlockPlan& plan, BlockPass pass);
  int64_t Bytes() const { return layout_.Total(); }
  void Place(char* memory, BlockPlan* plan) const;

 private:
  const BlockPass pass_;
  ScratchLayout layout_;
  int64_t first_, first_shift_, offset_, ones_, second_, transposed_ = 0, rotated_ = 0, norms_, strip_sums_ = 0;
  int64_t taps_sums_, patch_sums_ = 0, pooled_gradient_ = 0, weight_sums_ = 0, by_tap_ = 0;
};

enum class BlockWeights { kFirst, kSecond, kTransposed };

// What a variant implements.
using BlockPackKernel = void(const BlockPlan& plan, BlockWeights which, int64_t vector, char* scratch);
using BlockTaskKernel = void(const BlockPlan& plan, int64_t task, char* scratch);
using BlockFinishKernel = void(const BlockPlan& plan, int64_t image, float* a);
using BlockPooledKernel = void(const BlockPlan& plan, int64_t image, const float* da);
using BlockWeightKernel = void(const BlockPlan& plan, int64_t vector, float* gradient);

namespace block_kernels {
using agent_block_pack = BlockPackKernel;
using agent_block_moments = BlockTaskKernel;            // a group: statistics of z1, sums z1 patch and patch
using agent_block_forward = BlockTaskKernel;            // a strip: z2, its statistics and pooled pixels
using agent_block_finish = BlockFinishKernel;           // an image: A
using agent_block_pooled_gradient = BlockPooledKernel;  // an image: pooled_gradient and its sums
using agent_block_backward = BlockTaskKernel;           // a group: weight_sums, taps_sums
using agent_block_input_gradient = BlockTaskKernel;     // an image: dX
using agent_block_weight_gradient = BlockWeightKernel;  // a vector of channels: the second convolution's gradient
}  // namespace block_kernels

#define MAAM_KERNEL(kernel, isa) block_kernels::kernel kernel##_##isa;
#include "agent_block/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
