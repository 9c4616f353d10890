// What a variant of the module's kernels implements.
#pragma once

#include "maam/moments.h"
#include "maam/plan.h"
#include "maam/sums.h"
#include "maam/training.h"

namespace maam {

// Inference: F of pooled rows [row, row + rows) of one image.
using MaamStripKernel = void(const MaamPlan& plan, int64_t image, int64_t row, int64_t rows, char* scratch);

// Training: G and the noted pixels of pooled rows [row, row + rows) of one image. The branches are folded with the
// statistics of the batch.
struct MixedBranches {
  float mix[kMaxBranches];
  float* g;
  uint8_t* pixel;
};
using MaamMixKernel = void(const MaamPlan& plan, const MixedBranches& to, int64_t image, int64_t row, int64_t rows,
                           char* scratch);

// Backward: for each branch k, channel c and tap t the sum S of training.h over images [begin, end), and behind the
// taps the sum b, in doubles: sums[SumsRow(p, k, c) + t].
struct GradientOperands {
  const float* center;  // by input channel
  const float* dg;
  const uint8_t* pixel;
};
using MaamSumsKernel = void(const SumsPlan& plan, const GradientOperands& from, int64_t begin, int64_t end,
                            char* scratch, double* sums);

// A channel's row of InputOperands::weight: the kernels read two or four at a time, the last time past the taps too.
constexpr int64_t kMaxInputTaps = 4;
inline int64_t InputRow(int64_t taps) { return RoundUp(taps, kMaxInputTaps); }

// Gradient of one image's X. What the statistics of the batch add is linear in the patches: for every pixel
// dP = constant + matrix P, which each tap takes back to where it was read; the other terms are those of `dg`, which
// pixel by pixel goes to `pixel` by `weight`.
struct InputOperands {
  int64_t kernel;                     // the largest of any branch
  const float* matrix;                // taps x taps
  const float* constant;              // taps
  const float* weight[kMaxBranches];  // mix gamma rstd w, channels x InputRow(taps)
  const float* dg;
  const uint8_t* pixel;
  float* dx;
};
using MaamInputKernel = void(const MaamPlan& plan, const InputOperands& from, int64_t image, char* scratch);

// A worker's working memory for MaamInputKernel: the image and its gradient with zeros around, planes of the rest, D of
// all channels for a vector of pooled pixels, and the taps' places.
struct InputLayout {
  static constexpr int64_t kBehind = 2 * kMaxLanes;  // floats that vectors read behind the last pixel of a row
  int64_t stride, plane;                             // of the image
  int64_t image, gradient, planes, d, offset, total;

  InputLayout(const MaamPlan& plan, int64_t kernel) {
    constexpr int64_t kFloat = sizeof(float);
    stride = plan.p.width + kernel - 1 + kBehind;
    plane = (plan.p.height + kernel - 1) * stride;
    ScratchLayout layout;
    image = layout.Take(plan.p.inputs * plane * kFloat);
    gradient = layout.Take(plan.p.inputs * plane * kFloat);
    planes = layout.Take(plan.PlaneBytes());
    d = layout.Take(plan.p.channels * kPool * kMaxLanes * kFloat);
    offset = layout.Take(plan.p.inputs * kernel * kernel * int64_t{sizeof(int64_t)});
    total = layout.Total();
  }
};

namespace maam_kernels {
using maam_inference = MaamStripKernel;
using maam_moments = MaamMomentsKernel;
using maam_mix = MaamMixKernel;
using maam_sums = MaamSumsKernel;
using maam_input = MaamInputKernel;
}  // namespace maam_kernels

#define MAAM_KERNEL(kernel, isa) maam_kernels::kernel kernel##_##isa;
#include "maam/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
