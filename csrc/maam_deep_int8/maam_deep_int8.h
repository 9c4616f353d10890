// The whole multi-agent module in inference on bytes, Eq. 1, 9 and 3 of the MAAM paper, for branches of two
// convolutions and float32 images X (B, Cin, H, W). All of it in integers behind the first line:
//
//     q   = min(max(X / step + zero, 0), 127), rounded                    bytes; a NaN of X counts as 0
//     m_i = min(round(max(conv_i(q) + a_i, 0) * scale_i), 127)            k_i x k_i, stride 1, q = zero around
//     z_i = max(conv3x3(m_i) at the four pixels of a 2 x 2 window) + b_i  m = 0 around
//     G   = min(round(sum_i max(z_i, 0) * scale), 127)
//     F   = min(round(max(conv1x1(G) + b, 0) * scale'), 127)              bytes, channels last
//
// as in maam_int8/maam_int8.h. The 3x3 convolution is computed by Winograd's F(4x4, 3x3) in whole numbers, a quarter of
// the multiplications, and exactly: with the points 0, +-1, +-2 and infinity
//
//     576 Y = A^T [C (G' g G'^T) C * (B^T d B)] A,        C = diag(6, -4, -4, 1, 1, 24),
//
// G' and B^T hold whole numbers, G' g G'^T is at most 49 * 127 and B^T d B at most 100 * 127 in magnitude, which fit 16
// bits. Sums of their products may wrap around: everything behind is linear, so that 576 Y comes out modulo 2^32. 9 has
// an inverse modulo 2^32, which leaves 64 Y, and that fits: |Y| <= 9 M 127 127 < 2^25 for M <= kMaxMiddle channels.
#pragma once

#include "maam_int8/maam_int8.h"

namespace maam {

constexpr int64_t kMaxMiddle = ((int64_t{1} << 25) - 1) / (9 * kMaxActivation * kMaxWeight);

// Preconditions: as MaamInt8; middle <= kMaxMiddle. Second weights: G' g G'^T as int32 (ceil(channels / kOutputBlock),
// 36, ceil(middle / kQuad) * 2, kOutputBlock), each the 16-bit numbers of two neighbouring channels, the first in the
// lower half.
struct MaamDeepInt8 {
  int branches = 0;
  int64_t batch = 0;
  int64_t inputs = 0;    // Cin
  int64_t middle = 0;    // channels between the convolutions of a branch
  int64_t channels = 0;  // of each branch
  int64_t outputs = 0;   // O
  int64_t height = 0;
  int64_t width = 0;
  const float* x = nullptr;
  float per_step = 1;
  float zero = 0;
  ConvInt8 first[kMaxBranches];
  const float* first_scale[kMaxBranches] = {};  // (middle)
  const int32_t* second[kMaxBranches] = {};
  const int32_t* second_bias[kMaxBranches] = {};  // (channels)
  const float* scale = nullptr;                   // (channels)
  ConvInt8 reduce;
  const float* reduce_scale = nullptr;  // (outputs)
  uint8_t* f = nullptr;                 // as MaamInt8
};

// The operator: picks the variant and the threads.
void RunMaamDeepInt8(const MaamDeepInt8& p);
Isa MaamDeepInt8Isa();

// Working memory of one call, in bytes.
int64_t MaamDeepInt8Scratch(const MaamDeepInt8& p);

}  // namespace maam
