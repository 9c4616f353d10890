// Training of the whole multi-agent module, float32. Forward, for images X (B, Cin, H, W) and n = B H W pixels:
//
//     Y_i = gamma_i (C_i - mean_i) rstd_i + beta_i,  C_i = conv_i(X)              statistics of the batch, biased
//     A_i = maxpool2x2(ReLU(Y_i)),   G = sum_i softmax(alpha)_i A_i,   F = ReLU(BatchNorm(conv1x1(G)))
//
// A convolution is linear in the patches of the image, P (Cin k k taps), so that the moments of the patches hold those
// of every C_i, and no pass over C_i is needed to normalise it:
//
//     mean = w . m,   variance = w . (Cov w),   m_t = sum_p P_t / n,   Cov_tu = sum_p P_t P_u / n - m_t m_u
//
// Pooling passes a gradient on to one pixel of four. The forward notes which, a byte for each element of A_i, or that
// there is none. The backward needs no C_i either. With D = dG at the pixels noted for channel c, else 0:
//
//     S_t = sum_p D P_t,   b = sum_p D,   q = rstd (w . S - mean b)               q = sum_p D xhat
//     <dG, A_i> = sum_c gamma q + beta b,   d alpha_i = mix_i (<dG, A_i> - sum_j mix_j <dG, A_j>)
//     d gamma = mix_i q,   d beta = mix_i b
//     d w_t = mix_i gamma rstd (S_t - b m_t - q rstd (Cov w)_t)
//
// so that S, from one sweep over X, G's gradient and the notes, is all that takes time.
#pragma once

#include <algorithm>

#include "maam/maam.h"
#include "reduce/reduce.h"

namespace maam {

// A covariance of taps pays as long as there are few: three channels of 7 x 7.
constexpr int64_t kMaxTrainingTaps = 147;

// What is noted of an element of A_i: the pixel, 0 to 3 in reading order, that it was pooled from (the first of equal
// ones), or that none was above 0.
constexpr uint8_t kNoPixel = 4;

// Images are summed up in groups, and the groups in order: their number is part of the bits.
constexpr int64_t kMaxImageGroups = 16;
inline int64_t ImageGroups(const MaamInference& p) { return std::min(p.batch, kMaxImageGroups); }

// Taps of the largest kernel of any branch.
int64_t PatchTaps(const MaamInference& p);
inline int64_t PixelElements(const MaamInference& p) {
  return p.branches * p.batch * p.channels * (p.height / 2) * (p.width / 2);
}

// The branches' ConvNorm holds the moving statistics that are updated; `f` is (B, O, H / 2, W / 2). At least two
// elements a channel everywhere.
struct MaamTraining : MaamInference {
  double momentum[kMaxBranches + 1] = {};  // weight of the old value; that of the reduction stands last
  float* g = nullptr;                      // (B, C, H / 2, W / 2)
  float* z = nullptr;                      // as f: the 1x1 convolution
  float* mean = nullptr;                   // (O) of z
  float* rstd = nullptr;
  double* moments = nullptr;
  uint8_t* pixel = nullptr;  // (N, B, C, H / 2, W / 2)
  float* new_mean[kMaxBranches + 1] = {};
  float* new_variance[kMaxBranches + 1] = {};
};

// Operands and results of the forward, and dF.
struct MaamBackward : MaamInference {
  const float* g = nullptr;
  const float* z = nullptr;
  const float* mean = nullptr;
  const float* rstd = nullptr;
  const double* moments = nullptr;
  const uint8_t* pixel = nullptr;
  const float* df = nullptr;
  float* dalpha = nullptr;
  float* dweight[kMaxBranches + 1] = {};  // those of the reduction stand last
  float* dgamma[kMaxBranches + 1] = {};
  float* dbeta[kMaxBranches + 1] = {};
  float* dg = nullptr;  // as g: the gradient of G, for MaamInputGradient
};

// dX, an operator of its own: the first layer of a net does not need it, and a graph then drops it.
//
//     dC = mix_i gamma rstd (D - b / n - q xhat / n),   dX = sum_ic of dC convolved with the reversed w
struct MaamInputGradient : MaamInference {
  const double* moments = nullptr;
  const uint8_t* pixel = nullptr;
  const float* dg = nullptr;
  const float* dgamma[kMaxBranches] = {};
  const float* dbeta[kMaxBranches] = {};
  float* dx = nullptr;
};

// G alone, by the moving statistics: inference of a module without its reduction.
void RunMaamMix(const MaamInference& p, float* g);
int64_t MaamMixScratch(const MaamInference& p);

// The operators: they pick the variant and the threads. Bitwise the same results for any thread count. Without outputs
// (outputs = 0) there is no reduction: the forward ends at G, and dG is an operand of the backward.
void RunMaamTraining(const MaamTraining& p);
void RunMaamBackward(const MaamBackward& p);
void RunMaamInputGradient(const MaamInputGradient& p);

// Working memory of one call, in bytes.
int64_t MaamTrainingScratch(const MaamTraining& p);
int64_t MaamBackwardScratch(const MaamBackward& p);
int64_t MaamInputGradientScratch(const MaamInputGradient& p);

}  // namespace maam
