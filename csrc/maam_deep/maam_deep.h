// The whole multi-agent module in inference, Eq. 1, 9 and 3 of the MAAM paper, for branches of two convolutions and
// images X (B, Cin, H, W):
//
//     A_i = maxpool2x2(ReLU(BatchNorm(conv3x3(ReLU(BatchNorm(conv_i(X)))))))   conv_i: k_i x k_i; stride 1, "same"
//     G   = sum_i softmax(alpha)_i A_i                                          zero padding, no bias
//     F   = ReLU(BatchNorm(conv1x1(G)))                                         (B, O, H / 2, W / 2), rounded down
//
// A strip of an image at a time goes from the pixels to F in the L2 cache, channels last, so that channels are lanes:
// first convolution, B^T d B, a matrix product for each of the 36 frequencies, A^T m A, pooling, sum over branches, 1x1
// convolution. Normalisations and softmax weights are folded as in maam/maam.h. The folded and transformed weights are
// made anew at each call, on all threads.
//
// X and F are float32, float16 or bfloat16, the convolutions' weights any of these; all else is float32, and so is the
// arithmetic: F is rounded once.
//
// Error: the 3x3 convolution by F(4x4, 3x3) (winograd/transforms-inl.h) rounds about twice as much as a direct sum.
// NaN: as ReLU(NaN) = 0 in MindSpore. An infinity behind the first ReLU makes zeros or NaN of its tile of 4 x 4 pixels,
// where a direct sum has infinities, and then zeros.
#pragma once

#include "maam/maam.h"

namespace maam {

// Preconditions: as MaamInference; the second convolutions are 3 x 3.
struct MaamDeepInference {
  int branches = 0;
  int64_t batch = 0;
  int64_t inputs = 0;    // Cin
  int64_t middle = 0;    // channels between the convolutions of a branch
  int64_t channels = 0;  // of each branch
  int64_t outputs = 0;   // O
  int64_t height = 0;
  int64_t width = 0;
  DType dtype = DType::kFloat32;  // of x and f
  const void* x = nullptr;
  const float* alpha = nullptr;
  ConvNorm first[kMaxBranches];
  ConvNorm second[kMaxBranches];
  ConvNorm reduce;
  void* f = nullptr;
};

// The operator: picks the variant and the threads. Bitwise the same result for any thread count.
void RunMaamDeepInference(const MaamDeepInference& p);
Isa MaamDeepInferenceIsa();

// Working memory of one call, in bytes.
int64_t MaamDeepInferenceScratch(const MaamDeepInference& p);

}  // namespace maam
