// The CUDA kernels of the aggregate and the split over blocks, which follows the size alone.
#include <algorithm>

#include "aggregate/aggregate.h"
#include "aggregate/cuda.h"
#include "core/ceil_div.h"
#include "core/cuda/block.h"
#include "core/cuda/launch.h"
#include "core/cuda/memory.h"
#include "core/cuda/softmax.h"
#include "core/error.h"

namespace maam {
namespace cuda {
namespace {

constexpr int kUnroll = 2;  // packs of each branch that a thread of the forward has under way

// d alpha is summed up block by block, so this number is part of its bits. A multiple of the multiprocessors of the
// largest parts, and few enough for one block to add the partial sums in the shadow of a launch.
constexpr int64_t kMaxBackwardBlocks = 2112;

template <class T>
struct Operands {
  const Wide<T>* alpha;
  const T* a[kMaxBranches];
  const T* dg;
  T* out[kMaxBranches];  // G, or dA_1..dA_N
  int64_t size;
  int64_t head;   // forward: elements before the first that is aligned in every array
  int64_t packs;  // forward: packs behind them; backward: whether all arrays are aligned
};

// Elements, one by one, that no pack covers.
template <class T, int kBranches>
MAAM_DEVICE void MixOne(const Operands<T>& p, const Wide<T> (&w)[kMaxBranches], int64_t i) {
  Wide<T> sum = w[0] * Widen(Load(p.a[0], i));
#pragma unroll
  for (int k = 1; k < kBranches; ++k) sum = fma(w[k], Widen(Load(p.a[k], i)), sum);
  Store(p.out[0], i, Rounded<T>(sum));
}

template <class T, int kBranches>
__global__ void __launch_bounds__(kThreads) AggregateForwardKernel(const Operands<T> p) {
  constexpr int kLanes = Pack<T>::kLanes;
  Wide<T> w[kMaxBranches];
  Softmax(p.alpha, kBranches, w);
  const int64_t block = blockIdx.x;
  const int thread = threadIdx.x;
  if (p.packs == 0) {
    const int64_t begin = block * (kThreads * kLanes * kUnroll) + thread;
    for (int j = 0; j < kLanes * kUnroll; ++j) {
      if (begin + j * kThreads < p.size) MixOne<T, kBranches>(p, w, begin + j * kThreads);
    }
    return;
  }
  Pack<T> x[kUnroll][kBranches];
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const int64_t pack = (block * kUnroll + u) * kThreads + thread;
    if (pack >= p.packs) continue;
#pragma unroll
    for (int k = 0; k < kBranches; ++k) x[u][k] = LoadPack(p.a[k], p.head + pack * kLanes);
  }
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const int64_t pack = (block * kUnroll + u) * kThreads + thread;
    if (pack >= p.packs) continue;
    Pack<T> g;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      Wide<T> sum = w[0] * Widen(x[u][0].lane[lane]);
#pragma unroll
      for (int k = 1; k < kBranches; ++k) sum = fma(w[k], Widen(x[u][k].lane[lane]), sum);
      g.lane[lane] = Rounded<T>(sum);
    }
    StorePack(p.out[0], p.head + pack * kLanes, g);
  }
  if (block != 0) return;
  const int64_t tail = p.head + p.packs * kLanes;
  if (thread < p.head) MixOne<T, kBranches>(p, w, thread);
  if (tail + thread < p.size && thread < kLanes) MixOne<T, kBranches>(p, w, tail + thread);
}

// dA_k = w_k dG, and the dot products of one block: partial[block * kMaxBranches + k]. Which element falls to which
// thread does not depend on alignment, or d alpha would change with the allocator.
template <class T, int kBranches>
__global__ void __launch_bounds__(kThreads) AggregateBackwardKernel(const Operands<T> p, double* partial) {
  constexpr int kLanes = Pack<T>::kLanes;
  MAAM_SHARED_MEMORY(memory, kBranches * kWarps * 8);
  Wide<T> w[kMaxBranches];
  Softmax(p.alpha, kBranches, w);
  Wide<T> dots[kBranches] = {};
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads * kLanes;
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kLanes; i < p.size; i += stride) {
    if (p.packs != 0 && i + kLanes <= p.size) {
      const Pack<T> dg = LoadPack(p.dg, i);
      Pack<T> a[kBranches];
#pragma unroll
      for (int k = 0; k < kBranches; ++k) a[k] = LoadPack(p.a[k], i);
#pragma unroll
      for (int k = 0; k < kBranches; ++k) {
        Pack<T> da;
#pragma unroll
        for (int lane = 0; lane < kLanes; ++lane) {
          const Wide<T> d = Widen(dg.lane[lane]);
          dots[k] = fma(d, Widen(a[k].lane[lane]), dots[k]);
          da.lane[lane] = Rounded<T>(w[k] * d);
        }
        StorePack(p.out[k], i, da);
      }
    } else {
      for (int64_t j = i; j < i + kLanes && j < p.size; ++j) {
        const Wide<T> d = Widen(Load(p.dg, j));
#pragma unroll
        for (int k = 0; k < kBranches; ++k) {
          dots[k] = fma(d, Widen(Load(p.a[k], j)), dots[k]);
          Store(p.out[k], j, Rounded<T>(w[k] * d));
        }
      }
    }
  }
  double sums[kBranches];
#pragma unroll
  for (int k = 0; k < kBranches; ++k) sums[k] = dots[k];
  BlockSum(sums, Shared<double>(memory));
  if (threadIdx.x != 0) return;
#pragma unroll
  for (int k = 0; k < kBranches; ++k) Store(partial, blockIdx.x * kMaxBranches + k, sums[k]);
}

// One block: d alpha from the partial sums, added in a fixed order.
template <class W>
__global__ void __launch_bounds__(kThreads)
    AlphaGradientKernel(const W* alpha, int branches, const double* partial, int64_t count, W* dalpha) {
  MAAM_SHARED_MEMORY(memory, kMaxBranches * kWarps * 8);
  double dots[kMaxBranches] = {};
  for (int64_t i = threadIdx.x; i < count; i += kThreads) {
#pragma unroll
    for (int k = 0; k < kMaxBranches; ++k) {
      if (k < branches) dots[k] += Load(partial, i * kMaxBranches + k);
    }
  }
  BlockSum(dots, Shared<double>(memory));
  if (threadIdx.x != 0) return;
  W w[kMaxBranches];
  Softmax(alpha, branches, w);
  double mean = 0;
#pragma unroll
  for (int k = 0; k < kMaxBranches; ++k) mean += w[k] * dots[k];
#pragma unroll
  for (int k = 0; k < kMaxBranches; ++k) {
    if (k < branches) Store(dalpha, k, static_cast<W>(w[k] * (dots[k] - mean)));
  }
}

// Bytes beyond a multiple of 16.
int64_t Misalignment(const void* p) { return static_cast<int64_t>(reinterpret_cast<uintptr_t>(p) % 16); }

void ExpectElements(const char* op, const void* p, int64_t width) {
  if (Misalignment(p) % width == 0) return;
  Fail(op, "pointer", "one not aligned to its elements", "alignment to " + std::to_string(width) + " bytes");
}

template <class T>
Operands<T> OperandsOf(const AggregateForward& p) {
  Operands<T> operands = {};
  operands.alpha = static_cast<const Wide<T>*>(p.alpha);
  for (int k = 0; k < p.branches; ++k) operands.a[k] = static_cast<const T*>(p.a[k]);
  operands.size = p.size;
  return operands;
}

// Calls f with the number of branches as a compile-time constant, so that weights and sums live in registers.
template <int kBranches, class F>
void WithBranches(int branches, F&& f) {
  if constexpr (kBranches <= kMaxBranches) {
    if (branches == kBranches) return f.template operator()<kBranches>();
    WithBranches<kBranches + 1>(branches, f);
  }
}

template <class T>
void Forward(const AggregateForward& p) {
  constexpr const char* kOp = "AggregateForward";
  constexpr int kLanes = Pack<T>::kLanes;
  Operands<T> operands = OperandsOf<T>(p);
  operands.out[0] = static_cast<T*>(p.g);
  const int64_t behind = Misalignment(p.g);
  bool together = true;
  ExpectElements(kOp, p.g, sizeof(T));
  for (int k = 0; k < p.branches; ++k) {
    ExpectElements(kOp, p.a[k], sizeof(T));
    together = together && Misalignment(p.a[k]) == behind;
  }
  if (together) {
    operands.head = std::min<int64_t>(p.size, (16 - behind) % 16 / sizeof(T));
    operands.packs = (p.size - operands.head) / kLanes;
  }
  const int64_t packs = operands.packs != 0 ? operands.packs : CeilDiv(p.size, kLanes);
  WithBranches<kMinBranches>(p.branches, [&]<int kBranches>() {
    Launch(kOp, p.stream, CeilDiv(packs, kThreads * kUnroll), kThreads, AggregateForwardKernel<T, kBranches>, operands);
  });
}

template <class T>
void Backward(const AggregateBackward& p) {
  constexpr const char* kOp = "AggregateBackward";
  Operands<T> operands = OperandsOf<T>(p);
  operands.dg = static_cast<const T*>(p.dg);
  ExpectElements(kOp, p.dg, sizeof(T));
  int64_t misalignment = Misalignment(p.dg);
  for (int k = 0; k < p.branches; ++k) {
    operands.out[k] = static_cast<T*>(p.da[k]);
    ExpectElements(kOp, p.a[k], sizeof(T));
    ExpectElements(kOp, p.da[k], sizeof(T));
    misalignment |= Misalignment(p.a[k]) | Misalignment(p.da[k]);
  }
  operands.packs = misalignment == 0;
  const int64_t blocks = std::min(CeilDiv(p.size, kThreads * Pack<T>::kLanes), kMaxBackwardBlocks);
  const Workspace workspace(kOp, p.stream, blocks * kMaxBranches * 8);
  double* partial = workspace.At<double>(0);
  WithBranches<kMinBranches>(p.branches, [&]<int kBranches>() {
    Launch(kOp, p.stream, blocks, kThreads, AggregateBackwardKernel<T, kBranches>, operands, partial);
  });
  WriteAlphaGradient(kOp, p.stream, p.dtype, p.alpha, p.branches, partial, blocks, p.dalpha);
}

template <class W>
void WriteAlpha(const char* op, void* stream, const void* alpha, int branches, const double* partial, int64_t parts,
                void* dalpha) {
  Launch(op, stream, 1, kThreads, AlphaGradientKernel<W>, static_cast<const W*>(alpha), branches, partial, parts,
         static_cast<W*>(dalpha));
}

}  // namespace

void WriteAlphaGradient(const char* op, void* stream, DType dtype, const void* alpha, int branches,
                        const double* partial, int64_t parts, void* dalpha) {
  const auto write = dtype == DType::kFloat64 ? WriteAlpha<double> : WriteAlpha<float>;
  write(op, stream, alpha, branches, partial, parts, dalpha);
}

}  // namespace cuda

Isa AggregateForwardIsa() { return Isa::kCuda; }
Isa AggregateBackwardIsa() { return Isa::kCuda; }

void RunAggregateForward(const AggregateForward& p) {
  WithType(p.dtype, [&]<class T>(T*) { cuda::Forward<T>(p); });
}

void RunAggregateBackward(const AggregateBackward& p) {
  WithType(p.dtype, [&]<class T>(T*) { cuda::Backward<T>(p); });
}

// The oracle is host code.
void AggregateForwardReference(const AggregateForward&, double*, double*) {
  Fail("AggregateForwardReference", "library", "that of CUDA", "that of the CPU");
}

void AggregateBackwardReference(const AggregateBackward&, double*, double*, double*, double*) {
  Fail("AggregateBackwardReference", "library", "that of CUDA", "that of the CPU");
}

}  // namespace maam
