// How a call is cut up, its tables in working memory, and what a variant implements.
#pragma once

#include <cstdint>

#include "conv_block/conv_block.h"
#include "core/scratch.h"

namespace maam {

enum class ConvPass { kInference, kForward, kBackward };

struct ConvPlan : WinogradTraining {
  const ConvBlock& p;
  const ConvPass pass;
  const float* residual = nullptr;
  float* a = nullptr;  // in evaluation
  float* dx = nullptr;

  ConvPlan(const ConvBlock& problem, ConvPass pass, int64_t vector_lanes);

  // Tiles of a panel with channels last, for each strip of a bundle.
  int64_t StagedSize() const { return 16 * strips.rows * strips.columns * Panel(); }

  // A worker's working memory in a bundle, by offsets into it.
  int64_t map, gradient, input, product, staged, total;
};

// What a kind of call keeps in working memory.
class ConvTables {
 public:
  explicit ConvTables(const ConvPlan& plan);
  int64_t Bytes() const { return layout_.Total(); }
  void Place(char* memory, ConvPlan* plan) const;

 private:
  ScratchLayout layout_;
  int64_t ones_, norm_, forward_ = 0, transposed_ = 0, rotated_ = 0, strip_sums_ = 0, result_gradient_ = 0;
  int64_t weight_sums_ = 0;
};

using ConvPackKernel = void(const ConvPlan& plan, int64_t vector, char* scratch);
using ConvBundleKernel = void(const ConvPlan& plan, int64_t bundle, char* scratch);
using ConvImageKernel = void(const ConvPlan& plan, int64_t image, const float* from, float* to);
using ConvWeightKernel = void(const ConvPlan& plan, int64_t vector, float* gradient);

namespace conv_kernels {
using conv_block_pack = ConvPackKernel;               // the panels of the pass
using conv_block_inference = ConvBundleKernel;        // A
using conv_block_forward = ConvBundleKernel;          // z, its statistics and pooled pixels
using conv_block_finish = ConvImageKernel;            // A of an image from z and the residual
using conv_block_result_gradient = ConvImageKernel;   // result_gradient and its sums, from dA
using conv_block_backward = ConvBundleKernel;         // a group: weight_sums, and dX
using conv_block_weight_gradient = ConvWeightKernel;  // of a vector of channels
}  // namespace conv_kernels

#define MAAM_KERNEL(kernel, isa) conv_kernels::kernel kernel##_##isa;
#include "conv_block/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
