// The backward's driver on CUDA: which kernels in which order, and the working memory between them.
#include <algorithm>

#include "aggregate/cuda.h"
#include "reduce/cuda.h"
#include "reduce/cuda_backward.h"

namespace maam {
namespace cuda {
namespace {

// Partial sums are added in a fixed order: these numbers are part of the results' bits.
constexpr int64_t kMaxSumChunks = 64;      // of the pixels, for the sums by channel
constexpr int64_t kSumPixels = 8192;       // at least, in such a chunk
constexpr int64_t kMaxWeightChunks = 264;  // of the pixels, for dW: two for each multiprocessor of the largest parts
constexpr int64_t kWeightPixels = 128;     // at least, in such a chunk
constexpr int64_t kMaxPartialBytes = int64_t{256} << 20;  // of dW

template <class P>
struct GradientLayout {
  int64_t sum_chunks, sum_pixels, weight_chunks, weight_pixels, dot_blocks;
  int64_t dz, sums, squares, scale, z_factor, offset, dweight, dots, total;

  GradientLayout(const ReduceOperands& p, bool frozen) {
    constexpr int64_t kWidth = sizeof(Wide<typename P::Data>);
    const int64_t pixels = p.Pixels();
    sum_pixels = std::max(kSumPixels, CeilDiv(pixels, kMaxSumChunks));
    sum_pixels = RoundUp(sum_pixels, kSumPixels);
    sum_chunks = frozen ? TilesOf<P>(p) : CeilDiv(pixels, sum_pixels);
    const int64_t weight_bytes = p.outputs * p.inputs * kWidth;
    const int64_t most = std::clamp<int64_t>(kMaxPartialBytes / weight_bytes, 1, kMaxWeightChunks);
    weight_pixels = RoundUp(std::max(kWeightPixels, CeilDiv(pixels, most)), kWeightPixels);
    weight_chunks = CeilDiv(pixels, weight_pixels);
    dot_blocks = TilesOf<P>(p) * CeilDiv(p.inputs, P::kRows);
    ScratchLayout layout;
    dz = layout.Take(frozen ? p.outputs * pixels * SizeOf(p.dtype) : 0);
    sums = layout.Take(sum_chunks * p.outputs * 8);
    squares = layout.Take(sum_chunks * p.outputs * 8);
    scale = layout.Take(p.outputs * kWidth);
    z_factor = layout.Take(p.outputs * kWidth);
    offset = layout.Take(p.outputs * kWidth);
    dweight = layout.Take(weight_chunks * weight_bytes);
    dots = layout.Take(p.branches > 1 ? dot_blocks * kMaxBranches * 8 : 0);
    total = layout.Total();
  }
};

// What CoefficientsKernel takes, but for the sums.
template <class W, class Part>
CoefficientArguments<W, Part> CoefficientsOf(const ReduceBackward& p, bool frozen) {
  CoefficientArguments<W, Part> arguments = {};
  arguments.channels = p.outputs;
  arguments.total = p.Pixels();
  arguments.batch = !frozen;
  arguments.gamma = static_cast<const W*>(p.gamma);
  arguments.rstd = frozen ? nullptr : static_cast<const W*>(p.rstd);
  arguments.variance = static_cast<const W*>(p.variance);
  arguments.constants = p.constants;
  arguments.wide_constants = p.constants_dtype == DType::kFloat64;
  arguments.dgamma = static_cast<W*>(p.dgamma);
  arguments.dbeta = static_cast<W*>(p.dbeta);
  return arguments;
}

// dZ into working memory, with the sums by channel: the forward once more, as Z was not kept.
template <class P>
GradientZ<typename P::Data> FrozenGradient(const char* op, const ReduceBackward& p, const Images& images,
                                           const GradientLayout<P>& layout, const Workspace& workspace) {
  using T = typename P::Data;
  using W = Wide<T>;
  auto arguments = ForwardOf<T>(p, images, Finish::kFrozenGradient);
  arguments.mean = static_cast<const W*>(p.mean);
  arguments.variance = static_cast<const W*>(p.variance);
  arguments.out = workspace.At<T>(layout.dz);
  arguments.df = static_cast<const T*>(p.df);
  arguments.first = workspace.At<W>(layout.sums);
  arguments.second = workspace.At<W>(layout.squares);
  RunForward<P>(op, p, arguments);
  auto coefficients = CoefficientsOf<W, W>(p, true);
  coefficients.dy = arguments.first;
  coefficients.dyz = arguments.second;
  coefficients.parts = layout.sum_chunks;
  Launch(op, p.stream, CeilDiv(p.outputs, kChannels), kThreads, CoefficientsKernel<W, W>, coefficients);
  GradientZ<T> gradient = {};
  gradient.channels = p.outputs;
  gradient.images = images;
  gradient.df = arguments.out;
  return gradient;
}

// dZ as a function of dF and Z, and the sums by channel.
template <class P>
GradientZ<typename P::Data> BatchGradient(const char* op, const ReduceBackward& p, const Images& images,
                                          const GradientLayout<P>& layout, const Workspace& workspace) {
  using T = typename P::Data;
  using W = Wide<T>;
  const W* gamma = static_cast<const W*>(p.gamma);
  const W* rstd = static_cast<const W*>(p.rstd);
  W* scale = workspace.At<W>(layout.scale);
  Launch(op, p.stream, CeilDiv(p.outputs, kThreads), kThreads, ScaleKernel<W>, gamma, rstd, p.outputs, scale);
  auto coefficients = CoefficientsOf<W, double>(p, false);
  coefficients.z_factor = workspace.At<W>(layout.z_factor);
  coefficients.offset = workspace.At<W>(layout.offset);
  const GradientZ<T> gradient = {p.outputs,
                                 images,
                                 static_cast<const T*>(p.df),
                                 static_cast<const T*>(p.z),
                                 static_cast<const W*>(p.mean),
                                 scale,
                                 static_cast<const W*>(p.beta),
                                 coefficients.z_factor,
                                 coefficients.offset};
  const SumsArguments<T> sums = {gradient, layout.sum_chunks, layout.sum_pixels, workspace.At<double>(layout.sums),
                                 workspace.At<double>(layout.squares)};
  Launch(op, p.stream, layout.sum_chunks * p.outputs, kThreads, ReduceSumsKernel<T>, sums);
  coefficients.dy = sums.dy;
  coefficients.dyz = sums.dyz;
  coefficients.parts = layout.sum_chunks;
  Launch(op, p.stream, CeilDiv(p.outputs, kChannels), kThreads, CoefficientsKernel<W, double>, coefficients);
  return gradient;
}

template <class P>
void Backward(const ReduceBackward& p) {
  using T = typename P::Data;
  using W = Wide<T>;
  constexpr const char* kOp = "ReduceBackward";
  const bool frozen = p.z == nullptr;
  const GradientLayout<P> layout(p, frozen);
  const Workspace workspace(kOp, p.stream, layout.total);
  Images images = ImagesOf<T>(p, {p.df, p.z});
  for (int k = 0; k < p.branches; ++k) {
    images.packs = images.packs && reinterpret_cast<uintptr_t>(p.da[k]) % 16 == 0;
  }
  const auto gradient = frozen ? FrozenGradient<P>(kOp, p, images, layout, workspace)
                               : BatchGradient<P>(kOp, p, images, layout, workspace);
  BranchGradientArguments<T> branches = {gradient, WeightOf<T>(p), BranchesOf<T>(p, images), {}, nullptr};
  for (int k = 0; k < p.branches; ++k) branches.da[k] = static_cast<T*>(p.da[k]);
  if (p.branches > 1) branches.dots = workspace.At<double>(layout.dots);
  Launch(kOp, p.stream, layout.dot_blocks, kThreads, BranchGradientKernel<P>, branches);

  const WeightGradientArguments<T> weight = {gradient, branches.branches, layout.weight_pixels,
                                             workspace.At<W>(layout.dweight)};
  const int64_t tiles = CeilDiv(p.outputs, P::kRows) * CeilDiv(p.inputs, P::kColumns);
  Launch(kOp, p.stream, layout.weight_chunks * tiles, kThreads, WeightGradientKernel<P>, weight);
  const int64_t size = p.outputs * p.inputs;
  const W* partial = weight.partial;
  if (p.weight_dtype == p.dtype) {
    Launch(kOp, p.stream, CeilDiv(size, kThreads), kThreads, WeightGradientSumKernel<W, T>, partial,
           layout.weight_chunks, size, static_cast<T*>(p.dweight));
  } else {
    Launch(kOp, p.stream, CeilDiv(size, kThreads), kThreads, WeightGradientSumKernel<W, W>, partial,
           layout.weight_chunks, size, static_cast<W*>(p.dweight));
  }
  if (p.dalpha != nullptr) {
    WriteAlphaGradient(kOp, p.stream, p.dtype, p.alpha, p.branches, branches.dots, layout.dot_blocks, p.dalpha);
  }
}

}  // namespace
}  // namespace cuda

void RunReduceBackward(ReduceBackward* p) {
  cuda::WithProduct(p->dtype, [&]<class P>(P) { cuda::Backward<P>(*p); });
}

int64_t ReduceBackwardScratch(const ReduceOperands& p) {
  int64_t bytes = 0;
  cuda::WithProduct(p.dtype, [&]<class P>(P) { bytes = cuda::GradientLayout<P>(p, false).total; });
  return bytes;
}

}  // namespace maam
