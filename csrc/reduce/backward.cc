// Backward: what to compute in which order, on which thread.
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

// dW is summed up in groups of tiles, and the groups in order: their number is part of the result's bits, and bounds
// the working memory together with kMaxGroupBytes.
constexpr int64_t kMaxGroups = 16;
constexpr int64_t kMaxGroupBytes = int64_t{64} << 20;
constexpr int64_t kMaxChunks = 32;  // of images, for the sums
constexpr int64_t kChannelsATask = 32;

// Memory that all workers share.
struct SharedLayout {
  int64_t groups, group_bytes;
  int64_t rows, columns, scale, z_factor, offset, dweight, total;

  explicit SharedLayout(const ReduceOperands& p) {
    const int64_t width = SizeOf(ParameterDType(p.dtype));
    group_bytes = RoundUp(p.outputs * BackwardLayout(p).padded_inputs * width, kCacheLine);
    const int64_t tiles = Tiling{p.batch, p.pixels}.Count();
    groups = std::min(tiles, std::clamp<int64_t>(kMaxGroupBytes / group_bytes, 1, kMaxGroups));
    ScratchLayout layout;
    rows = layout.Take(p.outputs * p.inputs * width);
    columns = layout.Take(p.outputs * p.inputs * width);
    scale = layout.Take(p.outputs * width);
    z_factor = layout.Take(p.outputs * width);
    offset = layout.Take(p.outputs * width);
    dweight = layout.Take(groups * group_bytes);
    total = layout.Total();
  }
};

// Adds up sums[chunk][channel] in the order of the chunks.
std::vector<GradientSums> Total(const std::vector<GradientSums>& sums, int64_t channels) {
  std::vector<GradientSums> total(channels);
  for (size_t i = 0; i < sums.size(); ++i) {
    total[i % channels].dy += sums[i].dy;
    total[i % channels].dyz += sums[i].dyz;
  }
  return total;
}

std::vector<GradientSums> SumsFromZ(const ReduceTask& task) {
  const int64_t per_chunk = CeilDiv(task.batch, kMaxChunks);
  const int64_t chunks = CeilDiv(task.batch, per_chunk);
  const int64_t blocks = CeilDiv(task.outputs, kChannelsATask);
  std::vector<GradientSums> sums(chunks * task.outputs);
  const auto kernel = Choose<ReduceSumsKernel>(ChooseVariant("reduce_sums"));
  ParallelFor(chunks * blocks, [&](int64_t i) {
    const int64_t chunk = i / blocks;
    const int64_t channel = i % blocks * kChannelsATask;
    kernel(task, chunk * per_chunk, std::min(task.batch, (chunk + 1) * per_chunk), channel,
           std::min(task.outputs, channel + kChannelsATask), &sums[chunk * task.outputs]);
  });
  return Total(sums, task.outputs);
}

void WriteChannelGradients(const ReduceBackward& p, const std::vector<GradientSums>& sums) {
  const DType compute = ParameterDType(p.dtype);
  for (int64_t o = 0; o < p.outputs; ++o) {
    SetChannel(compute, p.dbeta, o, sums[o].dy);
    SetChannel(compute, p.dgamma, o, sums[o].dyz * p.Rstd(o));
  }
}

// What the statistics of the batch add to dZ.
void WriteBatchTerms(const ReduceBackward& p, const std::vector<GradientSums>& sums, const void* scale, void* z_factor,
                     void* offset) {
  const DType compute = ParameterDType(p.dtype);
  const double n = static_cast<double>(p.Pixels());
  for (int64_t o = 0; o < p.outputs; ++o) {
    const double factor = ChannelAt(compute, scale, o) / n;
    SetChannel(compute, z_factor, o, -factor * p.Rstd(o) * p.Rstd(o) * sums[o].dyz);
    SetChannel(compute, offset, o, -factor * sums[o].dy);
  }
}

// The groups' dW added up in double, in their order, and rounded to the weight's type.
template <class E>
void WriteWeightGradient(const ReduceBackward& p, const SharedLayout& layout, const Scratch& shared) {
  const int64_t stride = BackwardLayout(p).padded_inputs;
  const int64_t rows_per_task = CeilDiv(8192, p.inputs);
  ParallelFor(CeilDiv(p.outputs, rows_per_task), [&](int64_t i) {
    const int64_t end = std::min(p.outputs, (i + 1) * rows_per_task);
    for (int64_t o = i * rows_per_task; o < end; ++o) {
      for (int64_t c = 0; c < p.inputs; ++c) {
        double sum = 0;
        for (int64_t g = 0; g < layout.groups; ++g) {
          sum += reinterpret_cast<const E*>(shared.At(layout.dweight + g * layout.group_bytes))[o * stride + c];
        }
        WithType(p.weight_dtype, [&]<class T>(T*) {
          if constexpr (sizeof(T) <= sizeof(E)) {
            Assign(static_cast<T*>(p.dweight)[o * p.inputs + c], static_cast<E>(sum));
          }
        });
      }
    }
  });
}

void MakeTask(const ReduceBackward& p, const SharedLayout& layout, const Scratch& shared, ReduceTask* task) {
  const DType compute = ParameterDType(p.dtype);
  static_cast<ReduceOperands&>(*task) = p;
  task->tiling = {p.batch, p.pixels};
  Choose<ReduceWeightsKernel>(ChooseVariant("reduce_weights"))(p, shared.At(layout.rows), shared.At(layout.columns));
  task->rows = shared.At(layout.rows);
  task->columns = shared.At(layout.columns);
  for (int64_t o = 0; o < p.outputs; ++o) {
    SetChannel(compute, shared.At(layout.scale), o, ChannelAt(compute, p.gamma, o) * p.Rstd(o));
  }
  task->mean = p.mean;
  task->scale = shared.At(layout.scale);
  task->z_factor = shared.At(layout.z_factor);
  task->offset = shared.At(layout.offset);
  task->z = const_cast<void*>(p.z);
  task->df = p.df;
  std::copy(p.da, p.da + kMaxBranches, task->da);
}

}  // namespace

double ReduceBackward::Rstd(int64_t channel) const {
  const DType compute = ParameterDType(dtype);
  return z != nullptr ? ChannelAt(compute, rstd, channel) : 1 / std::sqrt(ChannelAt(compute, variance, channel) + eps);
}

void RunReduceBackward(ReduceBackward* p) {
  const SharedLayout layout(*p);
  const Scratch shared(layout.total);
  ReduceTask task;
  MakeTask(*p, layout, shared, &task);
  if (p->z != nullptr) {
    const std::vector<GradientSums> sums = SumsFromZ(task);
    WriteChannelGradients(*p, sums);
    WriteBatchTerms(*p, sums, task.scale, shared.At(layout.z_factor), shared.At(layout.offset));
  }
  const int64_t tiles = task.tiling.Count();
  const int64_t workers = WorkersFor(layout.groups);
  const int64_t worker_bytes = BackwardLayout(*p).total;
  const Scratch scratch(workers * worker_bytes);
  std::vector<double> dots(layout.groups * kMaxBranches);
  std::vector<GradientSums> sums(layout.groups * p->outputs);
  const auto kernel = Choose<ReduceGradientKernel>(ChooseVariant("reduce_gradient"));
  ParallelForWorkers(workers, layout.groups, [&](int64_t worker, int64_t g) {
    kernel(task, tiles * g / layout.groups, tiles * (g + 1) / layout.groups, scratch.At(worker * worker_bytes),
           shared.At(layout.dweight + g * layout.group_bytes), &dots[g * kMaxBranches], &sums[g * p->outputs]);
  });
  if (p->z == nullptr) WriteChannelGradients(*p, Total(sums, p->outputs));
  for (int k = 0; k < p->branches; ++k) {
    p->dots[k] = 0;
    for (int64_t g = 0; g < layout.groups; ++g) p->dots[k] += dots[g * kMaxBranches + k];
  }
  if (p->dtype == DType::kFloat64) {
    WriteWeightGradient<double>(*p, layout, shared);
  } else {
    WriteWeightGradient<float>(*p, layout, shared);
  }
}

int64_t ReduceBackwardScratch(const ReduceOperands& p) {
  const SharedLayout layout(p);
  return layout.total + WorkersFor(layout.groups) * BackwardLayout(p).total;
}

}  // namespace maam
