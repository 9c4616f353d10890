// The forward's drivers on CUDA: which kernels in which order, and the working memory between them.
#include "reduce/cuda.h"

namespace maam {
namespace cuda {

template <class P>
void RunForward(const char* op, const ReduceOperands& p, const ForwardArguments<typename P::Data>& arguments) {
  Launch(op, p.stream, TilesOf<P>(p) * CeilDiv(p.outputs, P::kRows), kThreads, ReduceForwardKernel<P>, arguments);
}

template void RunForward<OnCores<float>>(const char*, const ReduceOperands&, const ForwardArguments<float>&);
template void RunForward<OnCores<double>>(const char*, const ReduceOperands&, const ForwardArguments<double>&);
template void RunForward<OnTensorCores<float, Tf32>>(const char*, const ReduceOperands&,
                                                     const ForwardArguments<float>&);
template void RunForward<OnTensorCores<Half, Half>>(const char*, const ReduceOperands&, const ForwardArguments<Half>&);
template void RunForward<OnTensorCores<BFloat16, BFloat16>>(const char*, const ReduceOperands&,
                                                            const ForwardArguments<BFloat16>&);

namespace {

// Of the forward's tiles that one block merges. Statistics are merged in a fixed order: part of the results' bits.
constexpr int64_t kGroupTiles = 64;

template <class P>
void Inference(const ReduceInference& p) {
  using T = typename P::Data;
  auto arguments = ForwardOf<T>(p, ImagesOf<T>(p, {p.f}), Finish::kInference);
  arguments.mean = static_cast<const Wide<T>*>(p.moving_mean);
  arguments.variance = static_cast<const Wide<T>*>(p.moving_variance);
  arguments.out = static_cast<T*>(p.f);
  RunForward<P>("ReduceInference", p, arguments);
}

template <class P>
struct TrainingLayout {
  int64_t tiles, groups;
  int64_t tile_mean, tile_squares, group_mean, group_squares, scale, total;

  explicit TrainingLayout(const ReduceOperands& p) : tiles(TilesOf<P>(p)), groups(CeilDiv(tiles, kGroupTiles)) {
    constexpr int64_t kWidth = sizeof(Wide<typename P::Data>);
    ScratchLayout layout;
    tile_mean = layout.Take(tiles * p.outputs * kWidth);
    tile_squares = layout.Take(tiles * p.outputs * kWidth);
    group_mean = layout.Take(groups * p.outputs * 8);
    group_squares = layout.Take(groups * p.outputs * 8);
    scale = layout.Take(p.outputs * kWidth);
    total = layout.Total();
  }
};

template <class P>
void Training(const ReduceTraining& p) {
  using T = typename P::Data;
  using W = Wide<T>;
  constexpr const char* kOp = "ReduceTraining";
  const TrainingLayout<P> layout(p);
  const Workspace workspace(kOp, p.stream, layout.total);
  const Images images = ImagesOf<T>(p, {p.f, p.z});
  auto arguments = ForwardOf<T>(p, images, Finish::kTraining);
  arguments.out = static_cast<T*>(p.z);
  arguments.first = workspace.At<W>(layout.tile_mean);
  arguments.second = workspace.At<W>(layout.tile_squares);
  RunForward<P>(kOp, p, arguments);

  const StatisticsArguments<T> group = {arguments.first,
                                        arguments.second,
                                        layout.tiles,
                                        P::kColumns,
                                        p.Pixels(),
                                        p.outputs,
                                        kGroupTiles,
                                        workspace.At<double>(layout.group_mean),
                                        workspace.At<double>(layout.group_squares)};
  Launch(kOp, p.stream, layout.groups * CeilDiv(p.outputs, kChannels), kThreads, GroupMomentsKernel<T>, group);
  const StatisticsResults<W> results = {group.mean,
                                        group.squares,
                                        layout.groups,
                                        kGroupTiles * P::kColumns,
                                        p.Pixels(),
                                        p.outputs,
                                        p.constants,
                                        arguments.wide_constants,
                                        arguments.gamma,
                                        static_cast<const W*>(p.moving_mean),
                                        static_cast<const W*>(p.moving_variance),
                                        static_cast<W*>(p.mean),
                                        static_cast<W*>(p.rstd),
                                        static_cast<W*>(p.new_moving_mean),
                                        static_cast<W*>(p.new_moving_variance),
                                        workspace.At<W>(layout.scale)};
  Launch(kOp, p.stream, CeilDiv(p.outputs, kThreads), kThreads, StatisticsKernel<W>, results);
  const int64_t size = p.outputs * p.Pixels();
  const NormalizeArguments<T> normalize = {{p.pixels, size, images.packs},
                                           p.outputs,
                                           arguments.out,
                                           static_cast<T*>(p.f),
                                           results.batch_mean,
                                           results.scale,
                                           arguments.beta};
  Launch(kOp, p.stream, CeilDiv(size, kThreads * Pack<T>::kLanes), kThreads, NormalizeKernel<T>, normalize);
}

}  // namespace
}  // namespace cuda

Isa ReduceIsa() { return Isa::kCuda; }

// Constants stay where they are: the kernels read them.
void ReadConstants(const ReduceOperands&, double*, double*) {}

void RunReduceInference(const ReduceInference& p) {
  cuda::WithProduct(p.dtype, [&]<class P>(P) { cuda::Inference<P>(p); });
}

void RunReduceTraining(const ReduceTraining& p) {
  cuda::WithProduct(p.dtype, [&]<class P>(P) { cuda::Training<P>(p); });
}

int64_t ReduceForwardScratch(const ReduceOperands& p) {
  int64_t bytes = 0;
  cuda::WithProduct(p.dtype, [&]<class P>(P) { bytes = cuda::TrainingLayout<P>(p).total; });
  return bytes;
}

void ReduceInferenceReference(const ReduceInference&, double*, double*) {
  Fail("ReduceInferenceReference", "library", "that of CUDA", "that of the CPU: the oracle is host code");
}

}  // namespace maam
