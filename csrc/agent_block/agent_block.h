// An AgentBlock of two convolutions in training (Eq. 1 of the MAAM paper), float32, images X (B, Cin, H, W):
//
//     z1 = conv_k(X)      a1 = ReLU(BatchNorm(z1))        k x k, stride 1, "same" zero padding, no bias
//     z2 = conv3x3(a1)    A  = maxpool2x2(ReLU(BatchNorm(z2)))
//
// Normalisations take the statistics of the batch (biased variance); the moving variance takes the unbiased one:
// moving = momentum moving + (1 - momentum) batch. The 3 x 3 convolution and both of its gradients run by F(4x4, 3x3)
// (winograd/transforms-inl.h), a strip of an image at a time in the L2 cache. In memory there are only z2 and its
// pooled pixels; z1 and a1 are computed again wherever they are wanted, which costs less than fetching them.
//
// Backward, with n = B H W and x^ = (z - mean) rstd:
//
//     dY2 = dA at the first maximum of each window where that is > 0, else 0
//     dZ2 = gamma rstd (dY2 - d beta / n - x^2 d gamma / n),  d beta = sum dY2,  d gamma = sum dY2 x^2
//     dY1 = conv3x3^T(dZ2) where a1 > 0
//     dW1 = sum dZ1 patch = gamma rstd (sum dY1 patch - d beta / n sum patch - d gamma / n sum x^1 patch)
//
// whose last two sums the forward leaves in `moments`, so that dZ1 is computed for dX alone. NaN: ReLU(NaN) = 0.
#pragma once

#include <cstdint>

#include "core/isa.h"
#include "winograd/training.h"

namespace maam {

// Preconditions: k of 1, 3, 5 or 7; height, width >= 2; batch * height * width >= 2. Buffers do not overlap and need no
// alignment.
struct AgentBlock {
  int64_t batch = 0, inputs = 0, middle = 0, channels = 0, height = 0, width = 0, kernel = 0;
  const float* x = nullptr;
  const float* first_weight = nullptr;   // (middle, inputs, k, k)
  const float* second_weight = nullptr;  // (channels, middle, 3, 3)
  BlockNorm first, second;

  int64_t Taps() const { return inputs * kernel * kernel; }
  int64_t Pixels() const { return batch * height * width; }
};

// What the forward leaves for the backward.
struct AgentBlockSaved {
  float* z = nullptr;                   // z2 in blocks of channels
  float* pooled = nullptr;              // of each window of z2 the one that becomes the maximum
  double* first_statistics = nullptr;   // (2, middle): mean, rstd
  double* second_statistics = nullptr;  // (2, channels)
  double* moments = nullptr;            // (taps, middle + 1): sum x^1 patch, and in the last column sum patch
};

struct AgentBlockForward : AgentBlock, AgentBlockSaved {
  float* a = nullptr;  // (B, channels, H / 2, W / 2), rounded down
  // mean and variance, of the first and of the second normalisation
  float* new_statistics[4] = {};
};

struct AgentBlockBackward : AgentBlock, AgentBlockSaved {
  const float* da = nullptr;
  // Of weight, gamma and beta, first and second.
  float* gradient[6] = {};
};

// dX = conv_k^T(dZ1), an operator of its own because images rarely want a gradient.
struct AgentBlockInputGradient : AgentBlock, AgentBlockSaved {
  const float* da = nullptr;
  // As the backward has computed them, first and second.
  const float* dgamma[2] = {};
  const float* dbeta[2] = {};
  float* dx = nullptr;
};

// The operators: they pick the variants and the threads. Bitwise the same result for any thread count.
void RunAgentBlockForward(const AgentBlockForward& p);
void RunAgentBlockBackward(const AgentBlockBackward& p);
void RunAgentBlockInputGradient(const AgentBlockInputGradient& p);
Isa AgentBlockIsa();

// Working memory of one call, in bytes.
int64_t AgentBlockForwardScratch(const AgentBlock& p);
int64_t AgentBlockBackwardScratch(const AgentBlock& p);
int64_t AgentBlockInputGradientScratch(const AgentBlock& p);

}  // namespace maam
