// A 3 x 3 convolution by F(4x4, 3x3) in training, and what follows it:
//
//     z = conv3x3(a),   A = [maxpool2x2] ReLU(BatchNorm(z))
//
// with the statistics of the batch. What operators that train such a layer share: how it is cut up, its tables, and the
// sums that are joined between the passes over the images. Kept for the backward is z; the gradient dZ, with n = B H W
// and x^ = (z - mean) rstd,
//
//     dY = dA (at the first maximum of each window) where that is > 0, else 0
//     dZ = gamma rstd (dY - d beta / n - x^ d gamma / n),  d beta = sum dY,  d gamma = sum dY x^
//
// is made strip by strip in the cache, where the gradients of weights and input take it from.
#pragma once

#include <cstdint>

#include "winograd/strips.h"

namespace maam {

// Channels of z and of its pooled pixels stand in blocks of so many: (B, ceil(C / 32), H, W, 32).
constexpr int64_t kChannelBlock = 32;

// Sums over pixels that go through all images are taken by groups of strips, whose number and order do not depend on
// the threads.
constexpr int64_t kMaxGroups = 8;
// So many sums of the weights' gradient a group go through memory: fewer groups then.
constexpr int64_t kFewGroups = 4;
constexpr int64_t kManyWeightSums = 1 << 18;

struct BlockNorm {
  double eps = 0;
  double momentum = 0;  // weight of the old value
  const float* gamma = nullptr;
  const float* beta = nullptr;
  const float* moving_mean = nullptr;
  const float* moving_variance = nullptr;
};

// A normalisation by the statistics of the batch in float32, padded to whole blocks of channels.
struct BatchNormVectors {
  float* scale = nullptr;  // gamma rstd
  float* shift = nullptr;  // beta - mean scale
  float* mean = nullptr;
  float* rstd = nullptr;
  // dZ = scale dY + offset + slope (z - mean)
  float* offset = nullptr;
  float* slope = nullptr;
  // Of gamma, or 0: which of a window's pixels becomes the maximum, before there are statistics. Where a tiny gamma
  // makes pixels equal by rounding alone, d gamma is that of the exact maximum, not of the first.
  float* sign = nullptr;

  static constexpr int kVectors = 7;
  // The vectors, `padded` floats each, one after the other.
  void Place(float* at, int64_t padded);
};

struct WinogradTraining {
  Strips strips;         // strips.middle: channels of the convolution's input, padded to whole blocks
  int64_t lanes = 0;     // of the variant
  int64_t depth = 0;     // channels of its input that exist
  int64_t outputs = 0;   // channels of its result that exist
  int64_t channels = 0;  // and padded to whole blocks
  bool pools = true;
  int64_t result_height = 0, result_width = 0;  // of A
  int64_t bundle = 1;  // strips, of one image each, that are multiplied together: of small images, several
  int64_t groups = 1;

  float* z = nullptr;
  float* pooled = nullptr;     // of each window of z the one that becomes the maximum; z itself without pooling
  float* ones = nullptr;       // scales of weights that are packed as they are
  Panels forward, transposed;  // of the convolution, and of its gradient by its input
  float* rotated = nullptr;    // its weights (depth, outputs, 3, 3), turned by 180 degrees
  BatchNormVectors norm;
  float* strip_sums = nullptr;  // (strips or images, 2, channels): mean, sum of squared deviations; d beta, d gamma
  float* result_gradient = nullptr;  // dA where A > 0, in blocks of channels
  float* weight_sums = nullptr;      // (groups, panels, frequencies, middle, panel)

  // The cut of images (batch, height, width) into strips of at most about `most` tiles, and bundles of as many.
  void Cut(int64_t batch, int64_t height, int64_t width, int64_t most);

  int64_t Panel() const { return 2 * lanes; }
  int64_t Pixels() const { return strips.batch * strips.height * strips.width; }
  int64_t Bundles() const { return CeilDiv(strips.Count(), bundle); }
  int64_t Groups() const;
  int64_t GroupBegin(int64_t group) const { return group * Bundles() / groups; }
  int64_t WeightSums() const { return kWinogradFrequencies * strips.middle * channels; }
  // From a pixel of the map of dZ to the next row: one pixel more on each side than the map's.
  int64_t GradientStride() const { return 4 * strips.columns + 4; }
  int64_t GradientRows() const { return 4 * strips.rows + 4; }
  int64_t GradientSize() const { return channels * GradientRows() * GradientStride(); }
  // Floats from the start of z or of the pooled pixels to a channel of an image.
  int64_t ChannelAt(int64_t image, int64_t channel, int64_t pixels) const {
    return (image * channels + channel / kChannelBlock * kChannelBlock) * pixels + channel % kChannelBlock;
  }
};

// Scale, shift and the rest but the gradient's vectors, from mean and rstd.
void FillNorm(const BlockNorm& norm, const double* statistics, int64_t count, int64_t padded, BatchNormVectors* to);
// The gradient's vectors of one channel, from the means of dY and dY x^.
void FillGradientNorm(bool exists, double dgamma, double dbeta, int64_t c, BatchNormVectors* norm);

// Mean and rstd of all strips together, by Chan's formula in their order, and the new moving statistics.
void JoinStatistics(const WinogradTraining& plan, const BlockNorm& norm, int64_t count, int64_t padded,
                    double* statistics, float* new_mean, float* new_variance);
// d gamma and d beta, and what they make of dZ.
void JoinGradient(WinogradTraining* plan, float* dgamma, float* dbeta);
// The signs of gamma, before there are statistics.
void FillSigns(const BlockNorm& norm, WinogradTraining* plan);
// `rotated`, from weights (outputs, depth, 3, 3).
void RotateWeights(const WinogradTraining& plan, const float* weight);

}  // namespace maam
