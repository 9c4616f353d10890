// The gradients: what A of the product C = A B is, and the split over threads.
#include <algorithm>
#include <cstring>

#include "core/ceil_div.h"
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

// Rows of A apart by what is not a power of two.
int64_t AStride(int64_t depth) { return RoundUp(depth, kBlock) + kBlock; }

// dy where y is above 0, else 0. Loaded either way, so that nothing branches: signs are foretold badly.
template <bool kMasks, class T>
float Passed(const T* y, const T* dy, int64_t i) {
  const float value = ToFloat(dy[i]);
  if constexpr (kMasks) return ToFloat(y[i]) > 0 ? value : 0.0f;
  return value;
}

// Calls f.template operator()<kMasks, T>(y, dy).
template <class F>
void WithGradient(const DenseGradient& p, F&& f) {
  WithSingleType(p.dtype, [&]<class T>(T*) {
    const T* y = static_cast<const T*>(p.y);
    const T* dy = static_cast<const T*>(p.dy);
    y == nullptr ? f.template operator()<false, T>(y, dy) : f.template operator()<true, T>(y, dy);
  });
}

// Rows [begin, end) of dy, masked.
void CopyRows(const DenseGradient& p, int64_t begin, int64_t end, float* a, int64_t stride) {
  WithGradient(p, [&]<bool kMasks, class T>(const T* y, const T* dy) {
    const int64_t outputs = p.outputs;
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t o = 0; o < outputs; ++o) a[row * stride + o] = Passed<kMasks>(y, dy, row * outputs + o);
    }
  });
}

// Columns [begin, end) of dy, masked, as rows; and their sums. A square at a time: its rows are written whole.
void TransposeColumns(const DenseParameterGradients& p, int64_t begin, int64_t end, float* a, int64_t stride) {
  WithGradient(p, [&]<bool kMasks, class T>(const T* y, const T* dy) {
    const int64_t outputs = p.outputs, batch = p.batch, columns = end - begin;
    double sum[kBlock] = {};
    float square[kBlock][kBlock];
    for (int64_t row = 0; row < batch; row += kBlock) {
      const int64_t rows = std::min(batch - row, kBlock);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t o = 0; o < columns; ++o) {
          const float value = Passed<kMasks>(y, dy, (row + r) * outputs + begin + o);
          square[o][r] = value;
          sum[o] += value;
        }
      }
      for (int64_t o = 0; o < columns; ++o) std::copy_n(square[o], rows, a + (begin + o) * stride + row);
    }
    T* dbias = static_cast<T*>(p.dbias);
    for (int64_t o = 0; o < columns && dbias != nullptr; ++o) Assign(dbias[begin + o], static_cast<float>(sum[o]));
  });
}

// Columns before the first that stands at a cache line, the same in every row, or -1 where rows differ.
int64_t Lead(const DenseProduct& p) {
  constexpr int64_t kFloats = kCacheLine / int64_t{sizeof(float)};
  const int64_t at = static_cast<int64_t>(reinterpret_cast<uintptr_t>(p.c)) % kCacheLine;
  if (p.columns % kFloats != 0 || at % int64_t{sizeof(float)} != 0) return -1;
  return (kCacheLine - at) % kCacheLine / int64_t{sizeof(float)};
}

int64_t PanelsBytes() { return NumThreads() * (2 * kPanelFloats + 16) * int64_t{sizeof(float)}; }

// Sums over a depth of several panels meet in C, which must then be float32: in working memory where the result is not.
int64_t WideBytes(DType result, int64_t depth, int64_t size) {
  return result == DType::kFloat32 || depth <= kPanelDepth ? 0 : size * int64_t{sizeof(float)};
}

void Narrow(const float* from, int64_t size, DType dtype, void* to) {
  ParallelFor(CeilDiv(size, kTaskFloats), [&](int64_t task) {
    WithSingleType(dtype, [&]<class T>(T*) {
      for (int64_t i = task * kTaskFloats; i < std::min(size, (task + 1) * kTaskFloats); ++i) {
        Assign(static_cast<T*>(to)[i], from[i]);
      }
    });
  });
}

// Tasks are several for each thread to even out, whole panels wide if there is enough, after one for the lead.
void RunProduct(DenseProduct p, const Scratch& scratch) {
  constexpr int64_t kPanelsFloats = 2 * kPanelFloats + 16;
  float* panels = reinterpret_cast<float*>(scratch.At(0));
  const DType result = p.c_dtype;
  void* const to = p.c;
  const int64_t wide = WideBytes(result, p.depth, p.rows * p.columns);
  if (wide > 0) {
    p.c_dtype = DType::kFloat32;
    p.c = scratch.At(PanelsBytes());
  }
  const auto kernel = Choose<DenseProductKernel>(ChooseVariant("dense_product"));
  const int64_t found = p.c_dtype == DType::kFloat32 && p.depth <= kPanelDepth &&
                                p.rows * p.columns * int64_t{sizeof(float)} >= kStreamBytes
                            ? Lead(p)
                            : -1;
  p.stream = found >= 0;
  const int64_t lead = std::max<int64_t>(found, 0);
  const int64_t count = CeilDiv(p.columns - lead, kPanelColumns);
  const int64_t worth = CeilDiv(kTaskFlops, 2 * p.rows * p.depth * kPanelColumns);
  const int64_t least = std::max(worth, CeilDiv(count, 4 * NumThreads())) * kPanelColumns;
  const int64_t width = least < kPanel ? least : RoundUp(least, kPanel);
  const int64_t tasks = (lead > 0) + CeilDiv(p.columns - lead, width);
  ParallelForWorkers(WorkersFor(tasks), tasks, [&](int64_t worker, int64_t task) {
    const int64_t full = lead > 0 ? task - 1 : task;
    const int64_t begin = full < 0 ? 0 : lead + full * width;
    const int64_t end = full < 0 ? lead : std::min(p.columns, begin + width);
    kernel(p, begin, end, panels + worker * kPanelsFloats);
  });
  if (wide > 0) Narrow(static_cast<const float*>(p.c), p.rows * p.columns, result, to);
}

// Behind the panels and the float32 result.
int64_t AOffset(const DenseGradient& p, int64_t depth, int64_t size) {
  return PanelsBytes() + RoundUp(WideBytes(p.dtype, depth, size), kCacheLine);
}

// dx if the depth is that of the outputs, else dW; alike where both are.
int64_t ResultSize(const DenseGradient& p, int64_t depth) {
  return (depth == p.outputs ? p.batch : p.outputs) * p.inputs;
}

}  // namespace

Isa DenseGradientIsa() { return ChooseVariant("dense_product").isa; }

int64_t DenseGradientScratch(const DenseGradient& p, int64_t depth) {
  const int64_t a = std::max(p.batch * AStride(p.outputs), p.outputs * AStride(p.batch));
  return AOffset(p, depth, ResultSize(p, depth)) + a * int64_t{sizeof(float)};
}

void RunDenseInputGradient(const DenseInputGradient& p) {
  if (p.batch == 0) return;
  if (p.outputs == 0) {
    std::memset(p.dx, 0, p.batch * p.inputs * SizeOf(p.dtype));
    return;
  }
  const Scratch scratch(DenseGradientScratch(p, p.outputs));
  float* a = reinterpret_cast<float*>(scratch.At(AOffset(p, p.outputs, ResultSize(p, p.outputs))));
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
  product.b_dtype = p.weight_dtype;
  product.b = p.weight;
  product.c_dtype = p.dtype;
  product.c = p.dx;
  RunProduct(product, scratch);
}

void RunDenseParameterGradients(const DenseParameterGradients& p) {
  if (p.outputs == 0) return;
  const Scratch scratch(DenseGradientScratch(p, p.batch));
  float* a = reinterpret_cast<float*>(scratch.At(AOffset(p, p.batch, ResultSize(p, p.batch))));
  const int64_t stride = AStride(p.batch);
  const int64_t columns = RoundUp(std::max(kBlock, kTaskFloats / std::max<int64_t>(p.batch, 1)), kBlock);
  ParallelFor(CeilDiv(p.outputs, columns), [&](int64_t task) {
    const int64_t end = std::min(p.outputs, (task + 1) * columns);
    for (int64_t o = task * columns; o < end; o += kBlock) {
      TransposeColumns(p, o, std::min(end, o + kBlock), a, stride);
    }
  });
  if (p.batch == 0) {
    std::memset(p.dweight, 0, p.outputs * p.inputs * SizeOf(p.dtype));
    return;
  }
  DenseProduct product;
  product.rows = p.outputs;
  product.depth = p.batch;
  product.columns = p.inputs;
  product.a = a;
  product.a_stride = stride;
  product.b_dtype = product.c_dtype = p.dtype;
  product.b = p.x;
  product.c = p.dweight;
  RunProduct(product, scratch);
}

}  // namespace maam
