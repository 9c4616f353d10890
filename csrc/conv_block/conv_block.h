// A 3 x 3 convolution (stride 1, "same" zero padding, no bias), its normalisation, ReLU, and perhaps a 2x2 max-pool or
// the sum with a residual R, float32, X (B, Cin, H, W):
//
//     z = conv3x3(X),   A = ReLU(BatchNorm(z))   or   maxpool2x2(ReLU(BatchNorm(z)))   or   ReLU(BatchNorm(z)) + R
//
// The convolution and both of its gradients run by F(4x4, 3x3) (winograd/transforms-inl.h), a strip of an image at a
// time in the L2 cache; small images go several at a time, so that each reading of the weights serves many tiles. In
// training the statistics are those of the batch (winograd/training.h), and z and its pooled pixels stay in memory for
// the backward; in evaluation the normalisation is folded into the weights and nothing but A is written. dR is dA.
// NaN: ReLU(NaN) = 0.
#pragma once

#include <cstdint>

#include "core/isa.h"
#include "winograd/training.h"

namespace maam {

// Preconditions: height, width >= 1, with pooling >= 2; in training batch * height * width >= 2. Either pooling or a
// residual. Buffers do not overlap and need no alignment.
struct ConvBlock {
  int64_t batch = 0, inputs = 0, channels = 0, height = 0, width = 0;
  bool pools = false;
  const float* x = nullptr;
  const float* weight = nullptr;  // (channels, inputs, 3, 3)
  BlockNorm norm;

  int64_t ResultHeight() const { return pools ? height / 2 : height; }
  int64_t ResultWidth() const { return pools ? width / 2 : width; }
};

struct ConvBlockInference : ConvBlock {
  const float* residual = nullptr;  // as A, or none
  float* a = nullptr;
};

// What the forward leaves for the backward.
struct ConvBlockSaved {
  float* z = nullptr;            // in blocks of channels
  float* pooled = nullptr;       // of each window of z the one that becomes the maximum; unused without pooling
  double* statistics = nullptr;  // (2, channels): mean, rstd
};

struct ConvBlockForward : ConvBlockInference, ConvBlockSaved {
  float* new_mean = nullptr;
  float* new_variance = nullptr;
};

struct ConvBlockBackward : ConvBlock, ConvBlockSaved {
  const float* da = nullptr;
  float* dweight = nullptr;
  float* dgamma = nullptr;
  float* dbeta = nullptr;
  float* dx = nullptr;
};

// The operators: they pick the variants and the threads. Bitwise the same result for any thread count.
void RunConvBlockInference(const ConvBlockInference& p);
void RunConvBlockForward(const ConvBlockForward& p);
void RunConvBlockBackward(const ConvBlockBackward& p);
Isa ConvBlockIsa();

// Working memory of one call, in bytes.
int64_t ConvBlockInferenceScratch(const ConvBlock& p);
int64_t ConvBlockForwardScratch(const ConvBlock& p);
int64_t ConvBlockBackwardScratch(const ConvBlock& p);

}  // namespace maam
