// How a call is cut up, its tables in working memory, and what a variant implements.
#pragma once

#include <cstdint>

#include "agent_block/agent_block.h"
#include "core/scratch.h"
#include "winograd/strips.h"

namespace maam {

// Sums over pixels that go through all images are taken by groups of strips, whose number and order do not depend on
// the threads.
constexpr int64_t kMaxGroups = 8;

// A normalisation by the statistics of the batch in float32, padded to whole blocks of channels.
struct BatchNormVectors {
  float* scale = nullptr;  // gamma rstd
  float* shift = nullptr;  // beta - mean scale
  float* mean = nullptr;
  float* rstd = nullptr;
  // dZ = scale dY + offset + slope (z - mean)
  float* offset = nullptr;
  float* slope = nullptr;
  float* sign = nullptr;  // of gamma: which of a window's pixels becomes the maximum
};

struct BlockPlan {
  const AgentBlock& p;
  const AgentBlockSaved& saved;
  int64_t lanes;
  int64_t pooled_height, pooled_width;
  int64_t channels;  // padded to whole blocks; strips.middle is too
  int64_t groups;
  Strips strips;

  // Tables, see BlockTables.
  FirstPanels first;          // raw, or with scale and shift of its normalisation
  float* ones = nullptr;      // scales of weights that are packed as they are
  Panels second, transposed;  // of the second convolution, and of its gradient by its input
  float* rotated = nullptr;   // its weights (middle, channels, 3, 3), turned by 180 degrees
  BatchNormVectors first_norm, second_norm;
  float* strip_sums = nullptr;       // (strips, 2, channels or middle): mean, sum of squared deviations
  float* taps_sums = nullptr;        // (groups, taps + 1, middle): by tap; in the last row the plain sum
  float* patch_sums = nullptr;       // (groups, taps)
  float* pooled_gradient = nullptr;  // dA where the maximum is > 0, in blocks of channels
  float* by_tap = nullptr;           // the first convolution's weights in panels (middle, taps)
  float* dx = nullptr;
  float* weight_sums = nullptr;  // (groups, panels, frequencies, middle, panel)

  BlockPlan(const AgentBlock& problem, const AgentBlockSaved& with, int64_t vector_lanes);

  int64_t Panel() const { return 2 * lanes; }
  int64_t GroupBegin(int64_t group) const { return group * strips.Count() / groups; }
  int64_t WeightSums() const { return kWinogradFrequencies * strips.middle * channels; }
  // From a pixel of the map of dZ2 to the next row: one pixel more on each side than the map's.
  int64_t GradientStride() const { return 4 * strips.columns + 4; }
  int64_t GradientRows() const { return 4 * strips.rows + 4; }
  // Floats from the start of z2 or of the pooled pixels to a channel of an image.
  int64_t ChannelAt(int64_t image, int64_t channel, int64_t pixels) const {
    return (image * channels + channel / kChannelBlock * kChannelBlock) * pixels + channel % kChannelBlock;
  }

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

// Scale, shift and the rest but the gradient's vectors, from mean and rstd.
void FillNorm(const BlockNorm& norm, const double* statistics, int64_t count, int64_t padded, BatchNormVectors* to);

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
