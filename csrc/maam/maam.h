// The whole multi-agent module in inference, Eq. 1, 9 and 3 of the MAAM paper, for images X (B, Cin, H, W):
//
//     A_i = maxpool2x2(ReLU(BatchNorm_i(conv_i(X))))           k_i x k_i, stride 1, "same" zero padding, no bias
//     G   = sum_i softmax(alpha)_i A_i
//     F   = ReLU(BatchNorm(conv1x1(G)))                         (B, O, H / 2, W / 2), rounded down
//
// Normalisations use the moving statistics, so that each is an affine map: its scale is folded into the weights before
// it (behind the max a negative scale would turn it into a min), its shift is added behind. softmax(alpha)_i > 0
// passes through ReLU and max-pool and is folded as well. What is left,
//
//     g_i = max(conv'_i(X) at the four pixels, -b_i) + b_i,  G = sum_i g_i,  F = ReLU(W' G + b),
//
// runs a few pooled rows at a time: neither A_i nor G reach memory. NaN: the max drops it and ReLU(NaN) = 0, which is
// what MindSpore's ReLU before its max-pool does.
//
// X and F are float32, float16 or bfloat16, the convolutions' weights any of these; all else is float32, and so is the
// arithmetic: F is rounded once. Where X and all convolution weights are bfloat16 and the CPU multiplies pairs of such
// (avx512bf16), G is rounded to bfloat16 as well, to nearest, and denormals are zeros.
#pragma once

#include <cstdint>

#include "aggregate/aggregate.h"
#include "core/dtype.h"
#include "core/isa.h"

namespace maam {

constexpr int64_t kMaxKernelSize = 7;

// A convolution without bias, weights (outputs, inputs, kernel, kernel), and its normalisation, vectors of (outputs).
struct ConvNorm {
  int64_t kernel = 1;
  double eps = 0;
  const float* weight = nullptr;
  const float* gamma = nullptr;
  const float* beta = nullptr;
  const float* mean = nullptr;
  const float* variance = nullptr;
  const void* half = nullptr;  // the weight, where it is of a half type: see SingleWeights
  DType half_dtype = DType::kFloat16;
};

// Preconditions: kMinBranches <= branches <= kMaxBranches; kernels odd and <= kMaxKernelSize; height, width >= 2.
// Buffers do not overlap and need no alignment.
struct MaamInference {
  int branches = 0;
  int64_t batch = 0;
  int64_t inputs = 0;    // Cin
  int64_t channels = 0;  // of each branch
  int64_t outputs = 0;   // O
  int64_t height = 0;
  int64_t width = 0;
  DType dtype = DType::kFloat32;  // of x and f
  const void* x = nullptr;
  const float* alpha = nullptr;
  ConvNorm branch[kMaxBranches];
  ConvNorm reduce;
  void* f = nullptr;
  const double* constants = nullptr;  // the eps, where a device finds them that the host cannot read for
  void* stream = nullptr;             // of the device; unused on CPU
};

// The operator: picks the variant and the threads. Bitwise the same result for any thread count.
void RunMaamInference(const MaamInference& p);
Isa MaamInferenceIsa(const MaamInference& p);

// Constant i as a number, where the host can read it.
double MaamConstant(const double* constants, int i);

// Working memory of one call, in bytes.
int64_t MaamInferenceScratch(const MaamInference& p);

}  // namespace maam
