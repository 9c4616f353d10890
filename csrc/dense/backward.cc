// The gradients: what A of the product C = A B is, and the split over threads.
#include <algorithm>
#include <cstring>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "dense/kernels.h"

namespace maam {
namespace {

// A task below this is not worth its hand-over to another thread.
constexpr int64_t kTaskFlops = 1 << 20;
constexpr int64_t kTaskFloats = 1 << 16;
// Results from this size on leave the cache before anybody reads them.
constexpr int64_t kStreamBytes = 16 << 20;
constexpr int64_t kBlock = 16;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows of A apart by what is not a power of two.
int64_t AStride(int64_t depth) { return RoundUp(depth, kBlock) + kBlock; }

float Masked(const DenseGradient& p, int64_t i) { return p.y == nullptr || p.y[i] > 0 ? p.dy[i] : 0; }

// Rows [begin, end) of dy, masked.
void CopyRows(const DenseGradient& p, int64_t begin, int64_t end, float* a, int64_t stride) {
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t o = 0; o < p.outputs; ++o) a[row * stride + o] = Masked(p, row * p.outputs + o);
  }
}

// Columns [begin, end) of dy, masked, as rows; and their sums.
void TransposeColumns(const DenseParameterGradients& p, int64_t begin, int64_t end, float* a, int64_t stride) {
  double sum[kBlock] = {};
  for (int64_t row = 0; row < p.batch; ++row) {
    for (int64_t o = begin; o < end; ++o) {
      const float value = Masked(p, row * p.outputs + o);
      a[o * stride + row] = value;
      sum[o - begin] += value;
    }
  }
  for (int64_t o = begin; o < end && p.dbias != nullptr; ++o) p.dbias[o] = static_cast<float>(sum[o - begin]);
}

// Columns before the first that stands at a cache line, the same in every row, or -1 where rows differ.
int64_t Lead(const DenseProduct& p) {
  constexpr int64_t kFloats = kCacheLine / int64_t{sizeof(float)};
  const int64_t at = static_cast<int64_t>(reinterpret_cast<uintptr_t>(p.c)) % kCacheLine;
  if (p.columns % kFloats != 0 || at % int64_t{sizeof(float)} != 0) return -1;
  return (kCacheLine - at) % kCacheLine / int64_t{sizeof(float)};
}

// Tasks are whole panels wide, several for each thread to even out, after one for the lead.
void RunProduct(DenseProduct p, float* panels, int64_t panel_floats) {
  const auto kernel = Choose<DenseProductKernel>(ChooseVariant("dense_product"));
  const int64_t found =
      p.depth <= kPanelDepth && p.rows * p.columns * int64_t{sizeof(float)} >= kStreamBytes ? Lead(p) : -1;
  p.stream = found >= 0;
  const int64_t lead = std::max<int64_t>(found, 0);
  const int64_t count = CeilDiv(p.columns - lead, kPanel);
  const int64_t worth = CeilDiv(kTaskFlops, 2 * p.rows * p.depth * kPanel);
  const int64_t width = std::max(worth, CeilDiv(count, 4 * NumThreads())) * kPanel;
  const int64_t tasks = (lead > 0) + CeilDiv(p.columns - lead, width);
  ParallelForWorkers(WorkersFor(tasks), tasks, [&](int64_t worker, int64_t task) {
    const int64_t full = lead > 0 ? task - 1 : task;
    const int64_t begin = full < 0 ? 0 : lead + full * width;
    const int64_t end = full < 0 ? lead : std::min(p.columns, begin + width);
    kernel(p, begin, end, panels + worker * panel_floats);
  });
}

constexpr int64_t kPanelsFloats = 2 * kPanelFloats + 16;

int64_t PanelsBytes() { return NumThreads() * kPanelsFloats * int64_t{sizeof(float)}; }

}  // namespace

Isa DenseGradientIsa() { return ChooseVariant("dense_product").isa; }

int64_t DenseGradientScratch(const DenseGradient& p) {
  const int64_t a = std::max(p.batch * AStride(p.outputs), p.outputs * AStride(p.batch));
  return PanelsBytes() + a * int64_t{sizeof(float)};
}

void RunDenseInputGradient(const DenseInputGradient& p) {
  if (p.batch == 0) return;
  if (p.outputs == 0) {
    std::memset(p.dx, 0, p.batch * p.inputs * sizeof(float));
    return;
  }
  const Scratch scratch(DenseGradientScratch(p));
  float* a = reinterpret_cast<float*>(scratch.At(PanelsBytes()));
  const int64_t stride = AStride(p.outputs);
  const int64_t rows = std::max<int64_t>(1, kTaskFloats / p.outputs);
  ParallelFor(CeilDiv(p.batch, rows),
              [&](int64_t task) { CopyRows(p, task * rows, std::min(p.batch, (task + 1) * rows), a, stride); });
  DenseProduct product;
  product.rows = p.batch;
  product.depth = p.outputs;
  product.columns = p.inputs;
  product.a = a;
  product.a_stride = stride;
  product.b = p.weight;
  product.c = p.dx;
  RunProduct(product, reinterpret_cast<float*>(scratch.At(0)), kPanelsFloats);
}

void RunDenseParameterGradients(const DenseParameterGradients& p) {
  if (p.outputs == 0) return;
  const Scratch scratch(DenseGradientScratch(p));
  float* a = reinterpret_cast<float*>(scratch.At(PanelsBytes()));
  const int64_t stride = AStride(p.batch);
  const int64_t columns = RoundUp(std::max(kBlock, kTaskFloats / std::max<int64_t>(p.batch, 1)), kBlock);
  ParallelFor(CeilDiv(p.outputs, columns), [&](int64_t task) {
    const int64_t end = std::min(p.outputs, (task + 1) * columns);
    for (int64_t o = task * columns; o < end; o += kBlock) {
      TransposeColumns(p, o, std::min(end, o + kBlock), a, stride);
    }
  });
  if (p.batch == 0) {
    std::memset(p.dweight, 0, p.outputs * p.inputs * sizeof(float));
    return;
  }
  DenseProduct product;
  product.rows = p.outputs;
  product.depth = p.batch;
  product.columns = p.inputs;
  product.a = a;
  product.a_stride = stride;
  product.b = p.x;
  product.c = p.dweight;
  RunProduct(product, reinterpret_cast<float*>(scratch.At(0)), kPanelsFloats);
}

}  // namespace maam
