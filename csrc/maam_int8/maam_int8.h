// The whole multi-agent module in inference on bytes, Eq. 1, 9 and 3 of the MAAM paper, for branches of one convolution
// and float32 images X (B, Cin, H, W). All of it in integers behind the first line:
//
//     q   = min(max(X / step + zero, 0), 127), rounded                    bytes; a NaN of X counts as 0
//     z_i = max(conv_i(q) at the four pixels of a 2 x 2 window) + b_i      k_i x k_i, stride 1, q = zero around
//     G   = min(round(sum_i max(z_i, 0) * scale), 127)                    bytes
//     F   = min(round(max(conv1x1(G) + b, 0) * scale'), 127)              bytes, channels last
//
// Normalisations, softmax(alpha) and the correction for `zero` are part of the weights and biases, which are integers
// of one unit for all branches of a channel, so that the branches' sums can be added as they are. Rounding is to
// nearest, ties to even. Every instruction set and any number of threads give the same bits.
#pragma once

#include <cstdint>

#include "aggregate/aggregate.h"
#include "core/int8.h"
#include "core/isa.h"

namespace maam {

// A convolution: weight packed as in core/int8.h, a depth in the order (row, column, input channel); bias (outputs).
struct ConvInt8 {
  int64_t kernel = 1;
  const int8_t* weight = nullptr;
  const int32_t* bias = nullptr;
};

// Preconditions: kMinBranches <= branches <= kMaxBranches; kernels odd; height, width >= 2; zero a whole number from 0
// to 127; weights not below -127. Buffers do not overlap and need no alignment.
struct MaamInt8 {
  int branches = 0;
  int64_t batch = 0;
  int64_t inputs = 0;    // Cin
  int64_t channels = 0;  // of each branch
  int64_t outputs = 0;   // O
  int64_t height = 0;
  int64_t width = 0;
  const float* x = nullptr;
  float per_step = 1;  // 1 / step
  float zero = 0;
  ConvInt8 branch[kMaxBranches];
  const float* scale = nullptr;  // (channels)
  ConvInt8 reduce;
  const float* reduce_scale = nullptr;  // (outputs)
  uint8_t* f = nullptr;                 // (B, H / 2, W / 2, O rounded up to kQuad), zeros behind channel O
};

// The operator: picks the variant and the threads.
void RunMaamInt8(const MaamInt8& p);
Isa MaamInt8Isa();

// Working memory of one call, in bytes.
int64_t MaamInt8Scratch(const MaamInt8& p);

}  // namespace maam
