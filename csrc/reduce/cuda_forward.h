// The forward kernels: the product with its prologue and epilogues, the statistics of the batch, the normalisation.
#pragma once

#include "core/cuda/product.h"
#include "reduce/cuda_operands.h"

namespace maam::cuda {

enum class Finish { kInference, kTraining, kFrozenGradient };

template <class T>
struct ForwardArguments {
  using W = Wide<T>;
  Finish finish;
  Branches<T> branches;
  WeightOperand<T> weight;
  const void* constants;  // eps, momentum
  bool wide_constants;
  const W* gamma;
  const W* beta;
  const W* mean;  // moving statistics, but for training
  const W* variance;
  T* out;       // F; training: Z; frozen gradient: dZ
  const T* df;  // frozen gradient
  W* first;     // by tile of pixels and channel; training: mean; frozen gradient: sum of dY
  W* second;    // training: squared deviations from it; frozen gradient: sum of dY (z - mean)
};

// Blocks that a multiprocessor is to hold. Three would have more loads under way, but not without spills.
constexpr int kBlocksTogether = 2;

MAAM_DEVICE double ConstantAt(const void* constants, bool wide, int i) {
  return wide ? Load(static_cast<const double*>(constants), i) : Load(static_cast<const float*>(constants), i);
}

// One block: kRows channels of kColumns pixels, the channels' blocks side by side so that they find G's in the cache.
template <class P>
__global__ void __launch_bounds__(kThreads, kBlocksTogether)
    ReduceForwardKernel(const ForwardArguments<typename P::Data> p) {
  using T = typename P::Data;
  using W = Wide<T>;
  using Tile = Product<P, true, false>;
  constexpr int kLanes = Pack<T>::kLanes;
  constexpr int kPacks = P::kColumns / kLanes;
  MAAM_SHARED_MEMORY(memory, Tile::kBytes + 3 * P::kRows * static_cast<int>(sizeof(W)));
  const Shared<W> mean(memory + Tile::kBytes);
  const Shared<W> scale = mean.From(P::kRows);
  const Shared<W> beta = scale.From(P::kRows);
  const int64_t outputs = p.weight.outputs;
  const int64_t groups = (outputs + P::kRows - 1) / P::kRows;
  const int64_t tile = blockIdx.x / groups;
  const int64_t row = blockIdx.x % groups * P::kRows;
  const int64_t column = tile * P::kColumns;
  if (threadIdx.x < P::kRows && p.finish != Finish::kTraining) {
    const int64_t o = row + threadIdx.x;
    const W eps = static_cast<W>(ConstantAt(p.constants, p.wide_constants, 0));
    const bool exists = o < outputs;
    mean.Set(threadIdx.x, exists ? Load(p.mean, o) : W(0));
    scale.Set(threadIdx.x, exists ? Load(p.gamma, o) / sqrt(Load(p.variance, o) + eps) : W(0));
    beta.Set(threadIdx.x, exists ? Load(p.beta, o) : W(0));
  }
  Tile::Run(p.weight, row, MixtureOperand<T>(p.branches), column, 0, p.branches.channels, memory);

  const Shared<W> z(memory);
  const Images& images = p.branches.images;
  const int along = threadIdx.x % kPacks * kLanes;
  const PixelSeat seat = images.template Seat<kLanes>(column + along);
  for (int i = threadIdx.x / kPacks; i < P::kRows; i += kThreads / kPacks) {
    if (row + i >= outputs || seat.valid == 0) continue;
    Pack<T> out;
    if (p.finish == Finish::kTraining) {
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) out.lane[lane] = Rounded<T>(z.Get(i * Tile::kStride + along + lane));
    } else {
      Pack<T> df = {};
      if (p.finish == Finish::kFrozenGradient) df = images.Read(p.df, seat, row + i, outputs);
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        const W y = Normalized(z.Get(i * Tile::kStride + along + lane), mean.Get(i), scale.Get(i), beta.Get(i));
        const W passed = p.finish == Finish::kInference ? y : scale.Get(i) * Widen(df.lane[lane]);
        out.lane[lane] = Rounded<T>(y > 0 ? passed : W(0));
      }
    }
    images.Write(p.out, seat, row + i, outputs, out);
  }
  if (p.finish == Finish::kInference) return;

  // Two sums for each channel of the tile, a warp for each in turn.
  const int lane = threadIdx.x % kWarp;
  const int64_t left = images.total - column;
  const int count = left < P::kColumns ? static_cast<int>(left) : P::kColumns;
  for (int i = threadIdx.x / kWarp; i < P::kRows && row + i < outputs; i += kWarps) {
    W first = 0;
    W second = 0;
    if (p.finish == Finish::kTraining) {
      const W pivot = z.Get(i * Tile::kStride);  // sums of what is left behind it lose no digits of the deviations
      for (int j = lane; j < count; j += kWarp) first += z.Get(i * Tile::kStride + j) - pivot;
      first = WarpSum(first) / count;
      for (int j = lane; j < count; j += kWarp) {
        const W deviation = z.Get(i * Tile::kStride + j) - pivot - first;
        second = fma(deviation, deviation, second);
      }
      first += pivot;
    } else {
      for (int j = lane; j < count; j += kWarp) {
        const W value = z.Get(i * Tile::kStride + j);
        if (!(Normalized(value, mean.Get(i), scale.Get(i), beta.Get(i)) > 0)) continue;
        const PixelSeat at = images.template Seat<1>(column + j);
        const W dy = Widen(Load(p.df, (at.image * outputs + row + i) * images.pixels + at.pixel));
        first += dy;
        second = fma(dy, value - mean.Get(i), second);
      }
      first = WarpSum(first);
    }
    second = WarpSum(second);
    if (lane != 0) continue;
    Store(p.first, tile * outputs + row + i, first);
    Store(p.second, tile * outputs + row + i, second);
  }
}

struct Moments {
  double count, mean, squares;

  // Chan's update.
  MAAM_DEVICE void Add(double n, double other_mean, double other_squares) {
    if (n == 0) return;
    const double delta = other_mean - mean;
    const double total = count + n;
    mean += delta * (n / total);
    squares += other_squares + delta * delta * (count * n / total);
    count = total;
  }
};

template <class T>
struct StatisticsArguments {
  using W = Wide<T>;
  const W* tile_mean;
  const W* tile_squares;
  int64_t tiles, tile_pixels, total, channels;
  int64_t group;  // tiles that one block takes in
  double* mean;   // by group and channel
  double* squares;
};

// Pixels of `tiles` whole tiles from `first` on.
MAAM_DEVICE double PixelsOf(int64_t first, int64_t tiles, int64_t tile_pixels, int64_t total) {
  const int64_t begin = first * tile_pixels;
  const int64_t end = begin + tiles * tile_pixels;
  return static_cast<double>((end < total ? end : total) - (begin < total ? begin : total));
}

constexpr int kChannels = 32;                  // of a block of the kernels by channel
constexpr int kSlices = kThreads / kChannels;  // of the range that such a block takes in

// Blocks: groups of tiles, times groups of kChannels channels. Tiles are merged in their order, slice by slice.
template <class T>
__global__ void __launch_bounds__(kThreads) GroupMomentsKernel(const StatisticsArguments<T> p) {
  MAAM_SHARED_MEMORY(memory, 3 * kThreads * 8);
  const Shared<double> parts(memory);
  const int64_t blocks = (p.channels + kChannels - 1) / kChannels;
  const int64_t group = blockIdx.x / blocks;
  const int64_t channel = blockIdx.x % blocks * kChannels + threadIdx.x % kChannels;
  const int slice = threadIdx.x / kChannels;
  const int64_t end = (group + 1) * p.group < p.tiles ? (group + 1) * p.group : p.tiles;
  Moments moments = {};
  if (channel < p.channels) {
    for (int64_t tile = group * p.group + slice; tile < end; tile += kSlices) {
      moments.Add(PixelsOf(tile, 1, p.tile_pixels, p.total), Load(p.tile_mean, tile * p.channels + channel),
                  Load(p.tile_squares, tile * p.channels + channel));
    }
  }
  const int thread = threadIdx.x;
  parts.Set(3 * thread, moments.count);
  parts.Set(3 * thread + 1, moments.mean);
  parts.Set(3 * thread + 2, moments.squares);
  __syncthreads();
  if (slice != 0 || channel >= p.channels) return;
  moments = {};
  for (int i = thread; i < kThreads; i += kChannels) {
    moments.Add(parts.Get(3 * i), parts.Get(3 * i + 1), parts.Get(3 * i + 2));
  }
  Store(p.mean, group * p.channels + channel, moments.mean);
  Store(p.squares, group * p.channels + channel, moments.squares);
}

template <class W>
struct StatisticsResults {
  const double* mean;  // by group and channel
  const double* squares;
  int64_t groups, group_pixels, total, channels;
  const void* constants;
  bool wide_constants;
  const W* gamma;
  const W* moving_mean;
  const W* moving_variance;
  W* batch_mean;
  W* rstd;
  W* new_moving_mean;
  W* new_moving_variance;
  W* scale;
};

// One thread a channel.
template <class W>
__global__ void __launch_bounds__(kThreads) StatisticsKernel(const StatisticsResults<W> p) {
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (channel >= p.channels) return;
  Moments moments = {};
  for (int64_t i = 0; i < p.groups; ++i) {
    moments.Add(PixelsOf(i, 1, p.group_pixels, p.total), Load(p.mean, i * p.channels + channel),
                Load(p.squares, i * p.channels + channel));
  }
  const double n = static_cast<double>(p.total);
  const double eps = ConstantAt(p.constants, p.wide_constants, 0);
  const double momentum = ConstantAt(p.constants, p.wide_constants, 1);
  const W rstd = static_cast<W>(1 / sqrt(moments.squares / n + eps));
  Store(p.batch_mean, channel, static_cast<W>(moments.mean));
  Store(p.rstd, channel, rstd);
  const double old_mean = Load(p.moving_mean, channel);
  const double old_variance = Load(p.moving_variance, channel);
  Store(p.new_moving_mean, channel, static_cast<W>(momentum * old_mean + (1 - momentum) * moments.mean));
  Store(p.new_moving_variance, channel,
        static_cast<W>(momentum * old_variance + (1 - momentum) * (moments.squares / (n - 1))));
  Store(p.scale, channel,
        Load(p.gamma, channel) * rstd);  // from the rounded rstd, which is what the backward will have
}

template <class T>
struct NormalizeArguments {
  Images rows;  // of all channels of all images
  int64_t channels;
  const T* z;
  T* f;
  const Wide<T>* mean;
  const Wide<T>* scale;
  const Wide<T>* beta;
};

// F from Z, a pack for each thread.
template <class T>
__global__ void __launch_bounds__(kThreads) NormalizeKernel(const NormalizeArguments<T> p) {
  using W = Wide<T>;
  constexpr int kLanes = Pack<T>::kLanes;
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kLanes;
  if (begin >= p.rows.total) return;
  const auto normalized = [&](T z, W mean, W scale, W beta) {
    const W y = Normalized(Widen(z), mean, scale, beta);
    return Rounded<T>(y > 0 ? y : W(0));
  };
  if (p.rows.packs) {
    const int64_t channel = p.rows.template Seat<kLanes>(begin).image % p.channels;
    const W mean = Load(p.mean, channel);
    const W scale = Load(p.scale, channel);
    const W beta = Load(p.beta, channel);
    const Pack<T> z = LoadPack(p.z, begin);
    Pack<T> f;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) f.lane[lane] = normalized(z.lane[lane], mean, scale, beta);
    StorePack(p.f, begin, f);
    return;
  }
  for (int64_t i = begin; i < begin + kLanes && i < p.rows.total; ++i) {
    const int64_t channel = p.rows.template Seat<1>(i).image % p.channels;
    Store(p.f, i, normalized(Load(p.z, i), Load(p.mean, channel), Load(p.scale, channel), Load(p.beta, channel)));
  }
}

}  // namespace maam::cuda
