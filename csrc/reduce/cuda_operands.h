// What the products of reduce are made of, pack by pack: images, their mixture, the weight and the gradient of Z.
#pragma once

#include "core/cuda/memory.h"
#include "core/cuda/softmax.h"
#include "reduce/reduce.h"

namespace maam::cuda {

// Where a pack of neighbouring pixels begins in a batch of images of one channel.
struct PixelSeat {
  int64_t image;
  int64_t pixel;
  int valid;  // pixels of the pack that exist
};

// Images (batch, channels, pixels); pixels are counted through all images.
struct Images {
  int64_t pixels;  // of one image
  int64_t total;   // of the batch
  bool packs;      // every pack lies in one image and is aligned

  template <int kLanes>
  MAAM_DEVICE PixelSeat Seat(int64_t pixel) const {
    const int64_t left = total - pixel;
    const int valid = left <= 0 ? 0 : left < kLanes ? static_cast<int>(left) : kLanes;
    // The division of 64-bit numbers costs as much as a tile's row.
    if (total < (int64_t{1} << 31)) {
      const uint32_t image = static_cast<uint32_t>(pixel) / static_cast<uint32_t>(pixels);
      return {image, pixel - image * pixels, valid};
    }
    const int64_t image = pixel / pixels;
    return {image, pixel - image * pixels, valid};
  }

  // The pixel `lane` places later.
  MAAM_DEVICE PixelSeat Later(const PixelSeat& seat, int lane) const {
    PixelSeat later = {seat.image, seat.pixel + lane, 1};
    for (; later.pixel >= pixels; later.pixel -= pixels) ++later.image;
    return later;
  }

  template <class T>
  MAAM_DEVICE Pack<T> Read(const T* from, const PixelSeat& seat, int64_t channel, int64_t channels) const {
    if (packs && seat.valid != 0) return LoadPack(from, (seat.image * channels + channel) * pixels + seat.pixel);
    Pack<T> x;
#pragma unroll
    for (int i = 0; i < Pack<T>::kLanes; ++i) Narrow(Wide<T>(0), x.lane[i]);
#pragma unroll 1
    for (int lane = 0; lane < seat.valid; ++lane) {
      const PixelSeat one = Later(seat, lane);
      const T value = Load(from, (one.image * channels + channel) * pixels + one.pixel);
#pragma unroll
      for (int i = 0; i < Pack<T>::kLanes; ++i) {
        if (i == lane) x.lane[i] = value;
      }
    }
    return x;
  }

  template <class T>
  MAAM_DEVICE void Write(T* to, const PixelSeat& seat, int64_t channel, int64_t channels, const Pack<T>& x) const {
    if (packs && seat.valid != 0) return StorePack(to, (seat.image * channels + channel) * pixels + seat.pixel, x);
#pragma unroll 1
    for (int lane = 0; lane < seat.valid; ++lane) {
      const PixelSeat one = Later(seat, lane);
      T value = x.lane[0];
#pragma unroll
      for (int i = 1; i < Pack<T>::kLanes; ++i) {
        if (i == lane) value = x.lane[i];
      }
      Store(to, (one.image * channels + channel) * pixels + one.pixel, value);
    }
  }
};

// y = (z - mean) scale + beta, the same bits wherever it is computed: the ReLU's sign must not be decided twice.
template <class W>
MAAM_DEVICE W Normalized(W z, W mean, W scale, W beta) {
  return fma(z - mean, scale, beta);
}

// The weight, (outputs, inputs), in the data's type or in the wide one.
template <class T>
struct WeightOperand {
  static constexpr int kLanes = Pack<T>::kLanes;
  struct Seat {
    int64_t input;
  };
  const void* weight;
  bool wide;
  int64_t outputs;
  int64_t inputs;

  MAAM_DEVICE Seat SeatAt(int64_t input) const { return {input}; }
  MAAM_DEVICE void Read(const Seat& seat, int64_t output, Wide<T> (&x)[kLanes]) const {
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      x[i] = 0;
      if (output >= outputs || seat.input + i >= inputs) continue;
      const int64_t at = output * inputs + seat.input + i;
      x[i] = wide ? Load(static_cast<const Wide<T>*>(weight), at) : Widen(Load(static_cast<const T*>(weight), at));
    }
  }
};

// G = sum_k mix_k A_k, as the aggregate sums it up.
template <class T>
struct Branches {
  const Wide<T>* alpha;  // null for one branch as it is
  int count;
  int64_t channels;
  Images images;
  const T* a[kMaxBranches];
};

template <class T>
struct MixtureOperand {
  static constexpr int kLanes = Pack<T>::kLanes;
  static constexpr int kTogether = 4;  // branches whose loads are under way at a time: more cost registers
  const Branches<T>& branches;
  Wide<T> mix[kMaxBranches];

  MAAM_DEVICE explicit MixtureOperand(const Branches<T>& b) : branches(b) {
    for (Wide<T>& m : mix) m = 1;
    if (b.alpha != nullptr) Softmax(b.alpha, b.count, mix);
  }

  MAAM_DEVICE PixelSeat SeatAt(int64_t pixel) const { return branches.images.template Seat<kLanes>(pixel); }
  MAAM_DEVICE void Read(const PixelSeat& seat, int64_t channel, Wide<T> (&x)[kLanes]) const {
    const Branches<T>& b = branches;
    if (channel >= b.channels || seat.valid == 0) {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) x[i] = 0;
      return;
    }
    if (b.images.packs) {
      const int64_t at = (seat.image * b.channels + channel) * b.images.pixels + seat.pixel;
#pragma unroll
      for (int i = 0; i < kLanes; ++i) x[i] = 0;
#pragma unroll
      for (int first = 0; first < kMaxBranches; first += kTogether) {
        if (first >= b.count) return;
        Pack<T> a[kTogether];
#pragma unroll
        for (int k = 0; k < kTogether; ++k) {
          if (first + k < b.count) a[k] = LoadPack(b.a[first + k], at);
        }
#pragma unroll
        for (int k = 0; k < kTogether; ++k) {
          if (first + k >= b.count) continue;
#pragma unroll
          for (int i = 0; i < kLanes; ++i) {
            const Wide<T> value = Widen(a[k].lane[i]);
            x[i] = first + k == 0 ? mix[0] * value : fma(mix[first + k], value, x[i]);
          }
        }
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kLanes; ++i) x[i] = 0;
#pragma unroll 1
    for (int lane = 0; lane < seat.valid; ++lane) {
      const PixelSeat one = b.images.Later(seat, lane);
      const int64_t at = (one.image * b.channels + channel) * b.images.pixels + one.pixel;
      Wide<T> sum = mix[0] * Widen(Load(b.a[0], at));
#pragma unroll
      for (int k = 1; k < kMaxBranches; ++k) {
        if (k < b.count) sum = fma(mix[k], Widen(Load(b.a[k], at)), sum);
      }
#pragma unroll
      for (int i = 0; i < kLanes; ++i) x[i] = i == lane ? sum : x[i];
    }
  }
};

// What turns dF and Z into dZ, by channel; without z, dF is dZ already.
template <class T>
struct GradientZ {
  int64_t channels;
  Images images;
  const T* df;
  const T* z;
  const Wide<T>* mean;
  const Wide<T>* scale;
  const Wide<T>* beta;
  const Wide<T>* z_factor;  // dZ = scale dY + z_factor (z - mean) + offset
  const Wide<T>* offset;
};

template <class T>
struct GradientOperand {
  static constexpr int kLanes = Pack<T>::kLanes;
  const GradientZ<T>& p;

  MAAM_DEVICE PixelSeat SeatAt(int64_t pixel) const { return p.images.template Seat<kLanes>(pixel); }
  MAAM_DEVICE void Read(const PixelSeat& seat, int64_t channel, Wide<T> (&x)[kLanes]) const {
#pragma unroll
    for (int i = 0; i < kLanes; ++i) x[i] = 0;
    if (channel >= p.channels || seat.valid == 0) return;
    const Pack<T> df = p.images.Read(p.df, seat, channel, p.channels);
    if (p.z == nullptr) {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) x[i] = Widen(df.lane[i]);
      return;
    }
    const Pack<T> z = p.images.Read(p.z, seat, channel, p.channels);
    const Wide<T> mean = Load(p.mean, channel);
    const Wide<T> scale = Load(p.scale, channel);
    const Wide<T> beta = Load(p.beta, channel);
    const Wide<T> z_factor = Load(p.z_factor, channel);
    const Wide<T> offset = Load(p.offset, channel);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      const Wide<T> wide_z = Widen(z.lane[i]);
      const bool passes = Normalized(wide_z, mean, scale, beta) > 0;
      const Wide<T> dz = fma(z_factor, wide_z - mean, offset) + (passes ? scale * Widen(df.lane[i]) : Wide<T>(0));
      x[i] = i < seat.valid ? dz : Wide<T>(0);
    }
  }
};

}  // namespace maam::cuda
