// What a variant of the reduce kernels implements, and what the driver prepares for it. One set of kernels serves one
// branch and several.
#pragma once

#include "core/scratch.h"
#include "core/tile.h"
#include "reduce/reduce.h"

namespace maam {

// The widest vector of any variant.
constexpr int64_t kMaxVectorBytes = 64;
constexpr int64_t kMaxLanes = 16;

// The operands, and arrays of the compute type: float32, or float64 for float64 data.
struct ReduceTask : ReduceOperands {
  Tiling tiling = {};
  bool stream = false;            // F goes past the cache: whole tiles are aligned
  const void* rows = nullptr;     // W, outputs x inputs
  const void* columns = nullptr;  // W^T, inputs x outputs
  const void* mean = nullptr;     // y = (z - mean) scale + beta
  const void* scale = nullptr;
  const void* z_factor = nullptr;  // dZ = scale dY + z_factor (z - mean) + offset; without z the first term alone
  const void* offset = nullptr;
  void* f = nullptr;
  void* z = nullptr;
  const void* df = nullptr;
  void* da[kMaxBranches] = {};
};

// Of the pixels of one channel: mean, and sum of squared deviations from it.
struct Moments {
  double mean = 0;
  double squares = 0;
};

// Over the pixels of one channel.
struct GradientSums {
  double dy = 0;   // of dY
  double dyz = 0;  // of dY (z - mean)
};

// A worker's working memory, as offsets in bytes.
struct ForwardLayout {
  int64_t panel, sums, pivots, total;

  explicit ForwardLayout(const ReduceOperands& p) {
    const int64_t width = SizeOf(ParameterDType(p.dtype));
    ScratchLayout layout;
    panel = layout.Take((p.inputs * kTile + kMaxLanes) * width);
    sums = layout.Take(p.outputs * 2 * kMaxVectorBytes);
    pivots = layout.Take(p.outputs * width);
    total = layout.Total();
  }
};

struct BackwardLayout {
  int64_t padded_inputs;  // length of a row of dW while it is summed up
  int64_t panel, transposed, dz, sums, total;

  explicit BackwardLayout(const ReduceOperands& p) : padded_inputs(RoundUp(p.inputs, kMaxLanes)) {
    const int64_t width = SizeOf(ParameterDType(p.dtype));
    ScratchLayout layout;
    panel = layout.Take((padded_inputs * kTile + kMaxLanes) * width);
    transposed = layout.Take(padded_inputs * kTile * width);
    dz = layout.Take((p.outputs * kTile + kMaxLanes) * width);
    sums = layout.Take(p.outputs * 2 * kMaxVectorBytes);
    total = layout.Total();
  }
};

// rows = W and, unless null, columns = W^T, in the weight's compute type.
using ReduceWeightsKernel = void(const ReduceOperands& p, void* rows, void* columns);

// F of tiles [begin, end).
using ReduceInferKernel = void(const ReduceTask& p, int64_t begin, int64_t end, char* scratch);

// Z of tiles [begin, end), and their moments.
using ReduceProjectKernel = void(const ReduceTask& p, int64_t begin, int64_t end, char* scratch, Moments* moments);

// F from Z, rows [begin, end) of batch x outputs.
using ReduceNormalizeKernel = void(const ReduceTask& p, int64_t begin, int64_t end);

// The sums over images [image, end_image), from Z, into sums[channel] ... sums[end_channel - 1].
using ReduceSumsKernel = void(const ReduceTask& p, int64_t image, int64_t end_image, int64_t channel,
                              int64_t end_channel, GradientSums* sums);

// The gradients of tiles [begin, end): dA_i; dW, as outputs x padded_inputs values of the compute type; for several
// branches the dots <dG, A_i>; without z the sums as well.
using ReduceGradientKernel = void(const ReduceTask& p, int64_t begin, int64_t end, char* scratch, void* dweight,
                                  double* dots, GradientSums* sums);

namespace reduce_kernels {
using reduce_weights = ReduceWeightsKernel;
using reduce_infer = ReduceInferKernel;
using reduce_project = ReduceProjectKernel;
using reduce_normalize = ReduceNormalizeKernel;
using reduce_sums = ReduceSumsKernel;
using reduce_gradient = ReduceGradientKernel;
}  // namespace reduce_kernels

#define MAAM_KERNEL(kernel, isa) reduce_kernels::kernel kernel##_##isa;
#include "reduce/kernels.inc"
#undef MAAM_KERNEL

}  // namespace maam
