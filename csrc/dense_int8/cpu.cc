// The portable kernels, the choice of the variant and the split over threads.
#define MAAM_ISA portable
#include "dense_int8/cpu-inl.h"

#include <algorithm>

#include "core/ceil_div.h"
#include "core/dispatch.h"
#include "core/parallel.h"

namespace maam {

#define MAAM_KERNEL MAAM_REGISTER_KERNEL
#include "dense_int8/kernels.inc"
#undef MAAM_KERNEL

namespace {

constexpr int64_t kFinishSums = 16384;

// A task is a segment of the inputs by a range of blocks of outputs. Each copies its part of x, so that few are better,
// as long as threads have several to even out.
struct Tasks {
  int64_t segments, blocks, ranges;

  explicit Tasks(const DenseInt8& p) : segments(CeilDiv(p.inputs, kInt8Segment)) {
    // Whole pairs of blocks, which the wide variants take at a time.
    blocks = RoundUp(std::max<int64_t>(CeilDiv(OutputBlocks(p), CeilDiv(4 * NumThreads(), segments)), 1), 2);
    ranges = CeilDiv(OutputBlocks(p), blocks);
  }
  int64_t Count() const { return segments * ranges; }
};

constexpr int64_t kPackedBytes = kInt8Rows * kInt8Stride;

}  // namespace

Isa DenseInt8Isa() { return ChooseVariant("dense_int8").isa; }

int64_t DenseInt8Scratch(const DenseInt8& p) {
  return WorkersFor(Tasks(p).Count()) * (p.batch * SumStride(p) * int64_t{sizeof(int32_t)} + kPackedBytes);
}

void RunDenseInt8(const DenseInt8& p) {
  if (p.batch == 0 || p.outputs == 0) return;
  const auto add = Choose<DenseInt8SegmentKernel>(ChooseVariant("dense_int8"));
  const auto finish = Choose<DenseInt8FinishKernel>(ChooseVariant("dense_int8_finish"));
  const Tasks tasks(p);
  const int64_t workers = WorkersFor(tasks.Count());
  const int64_t sums_of_worker = p.batch * SumStride(p);
  const Scratch scratch(DenseInt8Scratch(p));
  uint8_t* packed = reinterpret_cast<uint8_t*>(scratch.At(0));
  int32_t* sums = reinterpret_cast<int32_t*>(scratch.At(workers * kPackedBytes));
  std::fill_n(sums, workers * sums_of_worker, 0);
  ParallelForWorkers(workers, tasks.Count(), [&](int64_t worker, int64_t task) {
    const int64_t begin = task / tasks.ranges * kInt8Segment;
    const int64_t first = task % tasks.ranges * tasks.blocks;
    add(p, {begin, std::min(kInt8Segment, p.inputs - begin), first, std::min(OutputBlocks(p), first + tasks.blocks)},
        packed + worker * kPackedBytes, sums + worker * sums_of_worker);
  });
  const int64_t rows = std::max<int64_t>(1, kFinishSums / (SumStride(p) * workers));
  ParallelFor(CeilDiv(p.batch, rows),
              [&](int64_t task) { finish(p, sums, workers, task * rows, std::min(p.batch, (task + 1) * rows)); });
}

}  // namespace maam
