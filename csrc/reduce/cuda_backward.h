// The backward kernels: sums by channel, then two products, dG = W^T dZ and dW = dZ G^T, that form dZ as they go.
#pragma once

#include "reduce/cuda_forward.h"

namespace maam::cuda {

template <class T>
struct SumsArguments {
  GradientZ<T> gradient;
  int64_t chunks, chunk_pixels;
  double* dy;   // by chunk and channel
  double* dyz;  // sums of dY (z - mean)
};

// Blocks: chunks of the pixels, times channels.
template <class T>
__global__ void __launch_bounds__(kThreads) ReduceSumsKernel(const SumsArguments<T> p) {
  using W = Wide<T>;
  constexpr int kLanes = Pack<T>::kLanes;
  MAAM_SHARED_MEMORY(memory, 2 * kWarps * 8);
  const GradientZ<T>& g = p.gradient;
  const int64_t channel = blockIdx.x % g.channels;
  const int64_t chunk = blockIdx.x / g.channels;
  const W mean = Load(g.mean, channel);
  const W scale = Load(g.scale, channel);
  const W beta = Load(g.beta, channel);
  const int64_t end = (chunk + 1) * p.chunk_pixels;
  W dy[kLanes] = {};
  W dyz[kLanes] = {};
  for (int64_t i = chunk * p.chunk_pixels + threadIdx.x * kLanes; i < end; i += kThreads * kLanes) {
    const PixelSeat seat = g.images.template Seat<kLanes>(i);
    if (seat.valid == 0) break;
    const Pack<T> z = g.images.Read(g.z, seat, channel, g.channels);
    const Pack<T> df = g.images.Read(g.df, seat, channel, g.channels);
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      const W wide_z = Widen(z.lane[lane]);
      const bool passes = Normalized(wide_z, mean, scale, beta) > 0 && lane < seat.valid;
      const W d = passes ? Widen(df.lane[lane]) : W(0);
      dy[lane] += d;
      if (passes) dyz[lane] = fma(d, wide_z - mean, dyz[lane]);
    }
  }
  double sums[2] = {};
#pragma unroll
  for (int lane = 0; lane < kLanes; ++lane) {
    sums[0] += dy[lane];
    sums[1] += dyz[lane];
  }
  BlockSum(sums, Shared<double>(memory));
  if (threadIdx.x != 0) return;
  Store(p.dy, chunk * g.channels + channel, sums[0]);
  Store(p.dyz, chunk * g.channels + channel, sums[1]);
}

// Sums over `parts` by channel, as double or as the wide type.
template <class W, class Part>
struct CoefficientArguments {
  const Part* dy;
  const Part* dyz;
  int64_t parts, channels, total;
  bool batch;  // whether the statistics are those of the batch
  const W* gamma;
  const W* rstd;      // batch statistics
  const W* variance;  // frozen ones
  const void* constants;
  bool wide_constants;
  W* dgamma;
  W* dbeta;
  W* z_factor;
  W* offset;
};

template <class W>
MAAM_DEVICE W RstdOf(const W* rstd, const W* variance, const void* constants, bool wide, int64_t channel) {
  if (rstd != nullptr) return Load(rstd, channel);
  return static_cast<W>(1 / sqrt(Load(variance, channel) + ConstantAt(constants, wide, 0)));
}

// Blocks: groups of kChannels channels.
template <class W, class Part>
__global__ void __launch_bounds__(kThreads) CoefficientsKernel(const CoefficientArguments<W, Part> p) {
  MAAM_SHARED_MEMORY(memory, 2 * kThreads * 8);
  const Shared<double> sums(memory);
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kChannels + threadIdx.x % kChannels;
  const int slice = threadIdx.x / kChannels;
  double dy = 0;
  double dyz = 0;
  for (int64_t i = slice; i < p.parts && channel < p.channels; i += kSlices) {
    dy += Load(p.dy, i * p.channels + channel);
    dyz += Load(p.dyz, i * p.channels + channel);
  }
  sums.Set(2 * threadIdx.x, dy);
  sums.Set(2 * threadIdx.x + 1, dyz);
  __syncthreads();
  if (slice != 0 || channel >= p.channels) return;
  dy = dyz = 0;
  for (int i = threadIdx.x; i < kThreads; i += kChannels) {
    dy += sums.Get(2 * i);
    dyz += sums.Get(2 * i + 1);
  }
  const double rstd = RstdOf(p.rstd, p.variance, p.constants, p.wide_constants, channel);
  Store(p.dbeta, channel, static_cast<W>(dy));
  Store(p.dgamma, channel, static_cast<W>(dyz * rstd));
  if (!p.batch) return;
  const double factor = Load(p.gamma, channel) * rstd / static_cast<double>(p.total);
  Store(p.z_factor, channel, static_cast<W>(-factor * rstd * rstd * dyz));
  Store(p.offset, channel, static_cast<W>(-factor * dy));
}

// scale = gamma rstd, as the forward had it.
template <class W>
__global__ void __launch_bounds__(kThreads) ScaleKernel(const W* gamma, const W* rstd, int64_t channels, W* scale) {
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (channel < channels) Store(scale, channel, Load(gamma, channel) * Load(rstd, channel));
}

template <class T>
struct BranchGradientArguments {
  GradientZ<T> gradient;
  WeightOperand<T> weight;
  Branches<T> branches;
  T* da[kMaxBranches];
  double* dots;  // by block, kMaxBranches each; null for one branch
};

// dG of kRows inputs and kColumns pixels, and from it dA_k and the dot products.
template <class P>
__global__ void __launch_bounds__(kThreads, kBlocksTogether)
    BranchGradientKernel(const BranchGradientArguments<typename P::Data> p) {
  using T = typename P::Data;
  using W = Wide<T>;
  using Tile = Product<P, false, false>;
  constexpr int kLanes = Pack<T>::kLanes;
  constexpr int kPacks = P::kColumns / kLanes;
  MAAM_SHARED_MEMORY(memory, Tile::kBytes);
  const Branches<T>& branches = p.branches;
  const int64_t groups = (branches.channels + P::kRows - 1) / P::kRows;
  const int64_t row = blockIdx.x % groups * P::kRows;
  const int64_t column = blockIdx.x / groups * P::kColumns;
  Tile::Run(p.weight, row, GradientOperand<T>{p.gradient}, column, 0, p.gradient.channels, memory);

  const Shared<W> dg(memory);
  const MixtureOperand<T> mixture(branches);
  const int along = threadIdx.x % kPacks * kLanes;
  const PixelSeat seat = branches.images.template Seat<kLanes>(column + along);
  double dots[kMaxBranches] = {};
  for (int i = threadIdx.x / kPacks; i < P::kRows; i += kThreads / kPacks) {
    const int64_t channel = row + i;
    if (channel >= branches.channels || seat.valid == 0) continue;
    W d[kLanes];
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) d[lane] = dg.Get(i * Tile::kStride + along + lane);
#pragma unroll
    for (int k = 0; k < kMaxBranches; ++k) {
      if (k >= branches.count) continue;
      Pack<T> da;
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) da.lane[lane] = Rounded<T>(mixture.mix[k] * d[lane]);
      branches.images.Write(p.da[k], seat, channel, branches.channels, da);
      if (p.dots == nullptr) continue;
      const Pack<T> a = branches.images.Read(branches.a[k], seat, channel, branches.channels);
      W dot = 0;
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        if (lane < seat.valid) dot = fma(d[lane], Widen(a.lane[lane]), dot);
      }
      dots[k] += dot;
    }
  }
  if (p.dots == nullptr) return;
  __syncthreads();
  BlockSum(dots, Shared<double>(memory));
  if (threadIdx.x != 0) return;
#pragma unroll
  for (int k = 0; k < kMaxBranches; ++k) {
    Store(p.dots, static_cast<int64_t>(blockIdx.x) * kMaxBranches + k, dots[k]);
  }
}

template <class T>
struct WeightGradientArguments {
  GradientZ<T> gradient;
  Branches<T> branches;
  int64_t chunk_pixels;  // a multiple of any product's kDepth
  Wide<T>* partial;      // by chunk, (outputs, inputs)
};

// dW of kRows outputs and kColumns inputs over one chunk of the pixels.
template <class P>
__global__ void __launch_bounds__(kThreads, kBlocksTogether)
    WeightGradientKernel(const WeightGradientArguments<typename P::Data> p) {
  using T = typename P::Data;
  using Tile = Product<P, true, true>;
  MAAM_SHARED_MEMORY(memory, Tile::kBytes);
  const int64_t outputs = p.gradient.channels;
  const int64_t inputs = p.branches.channels;
  const int64_t row_groups = (outputs + P::kRows - 1) / P::kRows;
  const int64_t column_groups = (inputs + P::kColumns - 1) / P::kColumns;
  const int64_t chunk = blockIdx.x / (row_groups * column_groups);
  const int64_t row = blockIdx.x / column_groups % row_groups * P::kRows;
  const int64_t column = blockIdx.x % column_groups * P::kColumns;
  const int64_t begin = chunk * p.chunk_pixels;
  const int64_t total = p.branches.images.total;
  const int64_t end = begin + p.chunk_pixels < total ? begin + p.chunk_pixels : total;
  Tile::Run(GradientOperand<T>{p.gradient}, row, MixtureOperand<T>(p.branches), column, begin, end, memory);
  const Shared<Wide<T>> dw(memory);
  for (int i = threadIdx.x; i < P::kRows * P::kColumns; i += kThreads) {
    const int64_t o = row + i / P::kColumns;
    const int64_t c = column + i % P::kColumns;
    if (o >= outputs || c >= inputs) continue;
    Store(p.partial, (chunk * outputs + o) * inputs + c, dw.Get(i / P::kColumns * Tile::kStride + i % P::kColumns));
  }
}

// dW from the chunks, added in their order.
template <class W, class Out>
__global__ void __launch_bounds__(kThreads)
    WeightGradientSumKernel(const W* partial, int64_t chunks, int64_t size, Out* dweight) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= size) return;
  double sum = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += Load(partial, chunk * size + i);
  Store(dweight, i, Rounded<Out>(static_cast<Wide<Out>>(sum)));
}

}  // namespace maam::cuda
