// The portable kernel, the choice of the variant and the split over threads.
#define MAAM_ISA portable
#include "dense/backward-inl.h"
#include "dense/cpu-inl.h"

#include <algorithm>

#include "core/ceil_div.h"
#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/scratch.h"

namespace maam {

#define MAAM_KERNEL MAAM_REGISTER_KERNEL
#include "dense/kernels.inc"
#undef MAAM_KERNEL

namespace {

constexpr int64_t kFinishFloats = 16384;

// How the work is cut up: tasks of a segment of the inputs by a block of outputs. Each task copies its part of x, so
// that few are better, as long as threads have several to even out. The bits of a result do not depend on its block.
struct Tasks {
  int64_t segments, block, blocks;

  explicit Tasks(const DenseForward& p) : segments(CeilDiv(p.inputs, kSegment)) {
    const int64_t wanted = CeilDiv(4 * NumThreads(), std::max<int64_t>(segments, 1));
    block = RoundUp(std::max<int64_t>(CeilDiv(p.outputs, wanted), 1), 2 * kOutputs);
    blocks = CeilDiv(p.outputs, block);
  }
  int64_t Count() const { return segments * blocks; }
};

int64_t PartialBytes(const DenseForward& p, const Tasks& tasks) {
  return RoundUp(tasks.segments * p.batch * PartialStride(p) * int64_t{sizeof(float)}, kCacheLine);
}

const Variant& SegmentVariant(const DenseForward& p) {
  const bool pairs = p.dtype == DType::kBFloat16 && p.weight_dtype == DType::kBFloat16;
  return ChooseVariant("dense_segment", pairs ? Isa::kAvx512Bf16 : Isa::kAvx512);
}

constexpr int64_t kWorkerBytes = kPackedFloats * int64_t{sizeof(float)};

}  // namespace

Isa DenseForwardIsa(const DenseForward& p) { return SegmentVariant(p).isa; }

int64_t DenseForwardScratch(const DenseForward& p) {
  const Tasks tasks(p);
  return PartialBytes(p, tasks) + WorkersFor(tasks.Count()) * kWorkerBytes;
}

void RunDenseForward(const DenseForward& p) {
  if (p.batch == 0 || p.outputs == 0) return;
  const auto segment = Choose<DenseSegmentKernel>(SegmentVariant(p));
  const auto finish = Choose<DenseFinishKernel>(ChooseVariant("dense_finish"));
  const Tasks tasks(p);
  const int workers = WorkersFor(tasks.Count());
  const Scratch scratch(DenseForwardScratch(p));
  float* partial = reinterpret_cast<float*>(scratch.At(0));
  ParallelForWorkers(workers, tasks.Count(), [&](int64_t worker, int64_t task) {
    const int64_t s = task / tasks.blocks;
    const int64_t begin = task % tasks.blocks * tasks.block;
    const DenseSegment part{s * kSegment, std::min(kSegment, p.inputs - s * kSegment), begin,
                            std::min(p.outputs, begin + tasks.block)};
    segment(p, part, partial + s * p.batch * PartialStride(p),
            scratch.At(PartialBytes(p, tasks) + worker * kWorkerBytes));
  });
  const int64_t rows = std::max<int64_t>(1, kFinishFloats / (p.outputs * tasks.segments));
  ParallelFor(CeilDiv(p.batch, rows),
              [&](int64_t task) { finish(p, partial, task * rows, std::min(p.batch, (task + 1) * rows)); });
}

}  // namespace maam
