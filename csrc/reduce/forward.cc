// Inference and training forward: what to compute in which order, on which thread.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/ceil_div.h"
#include "core/channels.h"
#include "core/dispatch.h"
#include "core/parallel.h"
#include "reduce/kernels.h"

namespace maam {
namespace {

// Results by chunk of the batch are merged in order: the number of chunks is part of their bits.
constexpr int64_t kMaxChunks = 64;

// Memory that all workers share: the weight in the compute type unless it has it already, and the scale.
struct SharedLayout {
  int64_t rows, scale, total;

  explicit SharedLayout(const ReduceOperands& p) {
    const DType compute = ParameterDType(p.dtype);
    ScratchLayout layout;
    rows = layout.Take(p.weight_dtype == compute ? 0 : p.outputs * p.inputs * SizeOf(compute));
    scale = layout.Take(p.outputs * SizeOf(compute));
    total = layout.Total();
  }
};

int64_t InferenceTilesATask(int64_t tiles) { return std::max<int64_t>(1, tiles / (8 * NumThreads())); }

bool ShouldStream(const ReduceInference& p) {
  const int64_t width = SizeOf(p.dtype);
  const int64_t bytes = (p.branches * p.inputs + p.outputs) * p.Pixels() * width;
  return width >= 4 && StreamingPays(bytes) && p.pixels * width % kCacheLine == 0 &&
         reinterpret_cast<uintptr_t>(p.f) % width == 0;
}

// Pixels of F before its first full cache line.
int64_t PixelsToAlignment(const ReduceInference& p) {
  const int64_t gap = -reinterpret_cast<intptr_t>(p.f) & (kCacheLine - 1);
  return gap / SizeOf(p.dtype);
}

ReduceTask MakeTask(const ReduceInference& p, const Scratch& shared) {
  const SharedLayout layout(p);
  ReduceTask task;
  static_cast<ReduceOperands&>(task) = p;
  task.tiling = {p.batch, p.pixels};
  task.rows = p.weight;
  if (p.weight_dtype != ParameterDType(p.dtype)) {
    task.rows = shared.At(layout.rows);
    Choose<ReduceWeightsKernel>(ChooseVariant("reduce_weights"))(p, shared.At(layout.rows), nullptr);
  }
  task.scale = shared.At(layout.scale);
  task.f = p.f;
  return task;
}

// Chan's update, in the order of the chunks.
Moments Merge(const std::vector<Moments>& chunks, const std::vector<int64_t>& counts, int64_t channel,
              int64_t channels) {
  Moments total;
  double before = 0;
  for (size_t chunk = 0; chunk < counts.size(); ++chunk) {
    const Moments& part = chunks[chunk * channels + channel];
    const double n = static_cast<double>(counts[chunk]);
    const double delta = part.mean - total.mean;
    total.mean += delta * (n / (before + n));
    total.squares += part.squares + delta * delta * (before * n / (before + n));
    before += n;
  }
  return total;
}

void WriteStatistics(const ReduceTraining& p, int64_t o, const Moments& moments, void* scale) {
  const DType compute = ParameterDType(p.dtype);
  const double n = static_cast<double>(p.Pixels());
  SetChannel(compute, p.mean, o, moments.mean);
  SetChannel(compute, p.rstd, o, 1 / std::sqrt(moments.squares / n + p.eps));
  const double old_mean = ChannelAt(compute, p.moving_mean, o);
  const double old_variance = ChannelAt(compute, p.moving_variance, o);
  SetChannel(compute, p.new_moving_mean, o, p.momentum * old_mean + (1 - p.momentum) * moments.mean);
  SetChannel(compute, p.new_moving_variance, o,
             p.momentum * old_variance + (1 - p.momentum) * (moments.squares / (n - 1)));
  // From the rounded rstd, which is what the backward will have.
  SetChannel(compute, scale, o, ChannelAt(compute, p.gamma, o) * ChannelAt(compute, p.rstd, o));
}

}  // namespace

void ReadConstants(const ReduceOperands& p, double* eps, double* momentum) {
  *eps = ChannelAt(p.constants_dtype, p.constants, 0);
  *momentum = ChannelAt(p.constants_dtype, p.constants, 1);
}

void RunReduceInference(const ReduceInference& p) {
  const DType compute = ParameterDType(p.dtype);
  const Scratch shared(SharedLayout(p).total);
  ReduceTask task = MakeTask(p, shared);
  task.stream = ShouldStream(p);
  if (task.stream) task.tiling.lead = PixelsToAlignment(p);
  task.mean = p.moving_mean;
  void* scale = shared.At(SharedLayout(p).scale);
  for (int64_t o = 0; o < p.outputs; ++o) {
    const double variance = ChannelAt(compute, p.moving_variance, o);
    // As the backward has it, which must agree on the sign of what the ReLU cuts.
    SetChannel(compute, scale, o, ChannelAt(compute, p.gamma, o) * (1 / std::sqrt(variance + p.eps)));
  }
  const int64_t tiles = task.tiling.Count();
  const int64_t per_task = InferenceTilesATask(tiles);
  const int64_t tasks = CeilDiv(tiles, per_task);
  const int64_t worker_bytes = ForwardLayout(p).total;
  const Scratch scratch(WorkersFor(tasks) * worker_bytes);
  const auto kernel = Choose<ReduceInferKernel>(ChooseVariant("reduce_infer"));
  ParallelForWorkers(WorkersFor(tasks), tasks, [&](int64_t worker, int64_t i) {
    kernel(task, i * per_task, std::min(tiles, (i + 1) * per_task), scratch.At(worker * worker_bytes));
  });
}

void RunReduceTraining(const ReduceTraining& p) {
  const Scratch shared(SharedLayout(p).total);
  ReduceTask task = MakeTask(p, shared);
  task.z = p.z;
  task.mean = p.mean;
  const int64_t tiles = task.tiling.Count();
  const int64_t per_chunk = CeilDiv(tiles, kMaxChunks);
  const int64_t chunks = CeilDiv(tiles, per_chunk);
  const int64_t worker_bytes = ForwardLayout(p).total;
  const Scratch scratch(WorkersFor(chunks) * worker_bytes);
  std::vector<Moments> moments(chunks * p.outputs);
  std::vector<int64_t> counts(chunks);
  const auto project = Choose<ReduceProjectKernel>(ChooseVariant("reduce_project"));
  ParallelForWorkers(WorkersFor(chunks), chunks, [&](int64_t worker, int64_t i) {
    const int64_t end = std::min(tiles, (i + 1) * per_chunk);
    counts[i] = std::min(p.Pixels(), end * kTile) - i * per_chunk * kTile;
    project(task, i * per_chunk, end, scratch.At(worker * worker_bytes), &moments[i * p.outputs]);
  });
  for (int64_t o = 0; o < p.outputs; ++o) {
    WriteStatistics(p, o, Merge(moments, counts, o, p.outputs), shared.At(SharedLayout(p).scale));
  }
  const auto normalize = Choose<ReduceNormalizeKernel>(ChooseVariant("reduce_normalize"));
  const int64_t rows = p.batch * p.outputs;
  const int64_t rows_per_task = CeilDiv(32768, p.pixels);
  ParallelFor(CeilDiv(rows, rows_per_task),
              [&](int64_t i) { normalize(task, i * rows_per_task, std::min(rows, (i + 1) * rows_per_task)); });
}

int64_t ReduceForwardScratch(const ReduceOperands& p) {
  const int64_t tiles = Tiling{p.batch, p.pixels}.Count();
  return SharedLayout(p).total + WorkersFor(tiles) * ForwardLayout(p).total;
}

}  // namespace maam
