// How one call is cut up: strips of tiles of an image. A tile is 4 x 4 pixels of the second convolutions, 2 x 2 pooled.
#pragma once

#include "maam_deep_int8/maam_deep_int8.h"
#include "maam_int8/plan.h"
#include "winograd/strips.h"

namespace maam {

// Tiles whose intermediate results, 10 KB each with 64 channels between the convolutions, share the L2 cache with a
// block of weights.
constexpr int64_t kDeepInt8Tiles = 32;
// Channels of the map are padded to whole vectors of any variant.
constexpr int64_t kMapChannels = 32;

struct DeepInt8Plan {
  const MaamDeepInt8& p;
  int64_t pooled_height, pooled_width;
  int64_t middle;    // padded to kMapChannels
  int64_t channels;  // padded to whole blocks, as outputs
  int64_t outputs;
  Strips strips;

  // Padded to whole blocks.
  const int32_t* first_bias[kMaxBranches];
  const float* first_scale[kMaxBranches];
  const int32_t* second_bias[kMaxBranches];
  const float* scale;
  const int32_t* reduce_bias;
  const float* reduce_scale;

  // A worker's working memory, by offsets into it: the image in bytes, channels last; what the taps of the first
  // convolution read; its result, the map; half of and the whole transformed input; products; sums over branches; G.
  int64_t image, patches, map, half, input, product, sums, panel, total;

  DeepInt8Plan(const MaamDeepInt8& problem, int threads);

  int64_t MapColumns() const { return 4 * strips.columns + 2; }
  int64_t ImageStride() const { return (MapColumns() + 2 * strips.border) * p.inputs; }
  int64_t Pairs() const { return RoundUp(p.middle, kQuad) / 2; }
  // Numbers from one frequency to the next; not a power of two, as in Strips.
  int64_t FrequencyStride() const { return strips.tiles * middle + kMapChannels; }

  int64_t TableBytes() const;
  void FillTables(char* memory);
};

// F of one strip.
using DeepInt8StripKernel = void(const DeepInt8Plan& plan, int64_t strip, char* scratch);

namespace maam_deep_int8_kernels {
using maam_deep_int8 = DeepInt8StripKernel;
}  // namespace maam_deep_int8_kernels

#define MAAM_KERNEL(kernel, isa) maam_deep_int8_kernels::kernel kernel##_##isa;
#include "maam_deep_int8/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
