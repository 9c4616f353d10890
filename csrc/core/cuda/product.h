// A block's tile of a matrix product: both operands are made by functions, slab by slab, in shared memory, and the
// result is left there for the caller to finish. An operand has
//
//     Seat SeatAt(int64_t along)                                     where a thread's pack of kLanes values begins
//     void Read(const Seat&, int64_t across, Wide<T> (&x)[kLanes])   the pack; zeros outside of the matrix
//
// of which `along` runs with neighbours in memory: along the depth of the product or along its rows (columns).
#pragma once

#include "core/cuda/block.h"
#include "core/cuda/fragment.h"
#include "core/cuda/memory.h"

namespace maam::cuda {

// How a product is computed: Data in global memory, Stored in shared memory, Sum for the sums.
template <class T>
struct OnCores {
  using Data = T;
  using Stored = T;
  using Sum = T;
  static constexpr bool kTensor = false;
  static constexpr int kRows = sizeof(T) == 4 ? 128 : 64;
  static constexpr int kColumns = sizeof(T) == 4 ? 64 : 32;
  static constexpr int kDepth = sizeof(T) == 4 ? 32 : 16;
};
template <class T, class S>
struct OnTensorCores {
  using Data = T;
  using Stored = S;
  using Sum = float;
  static constexpr bool kTensor = true;
  static constexpr int kRows = 128;
  static constexpr int kColumns = 64;
  static constexpr int kDepth = 32;
};

// One operand's slab in shared memory. Cores want neighbouring rows side by side, tensor cores take what comes.
template <class P, int kLines, bool kAlongDepth>
struct Slab {
  static constexpr bool kDepthInside = P::kTensor && kAlongDepth;
  static constexpr int kPad = 16 / static_cast<int>(sizeof(typename P::Stored));
  static constexpr int kStride = (kDepthInside ? P::kDepth : kLines) + kPad;
  static constexpr int kBytes =
      (kDepthInside ? kLines : P::kDepth) * kStride * static_cast<int>(sizeof(typename P::Stored));

  MAAM_DEVICE static int At(int line, int depth) {
    return kDepthInside ? line * kStride + depth : depth * kStride + line;
  }

  template <class Operand>
  MAAM_DEVICE static void Fill(const Operand& from, int64_t line, int64_t depth, Shared<typename P::Stored> to) {
    constexpr int kLanes = Operand::kLanes;
    constexpr int kAlong = (kAlongDepth ? P::kDepth : kLines) / kLanes;
    constexpr int kAcross = kAlongDepth ? kLines : P::kDepth;
    constexpr int kStep = kThreads / kAlong;
    const int along = threadIdx.x % kAlong * kLanes;
    const int first = threadIdx.x / kAlong;
    const auto seat = from.SeatAt((kAlongDepth ? depth : line) + along);
#pragma unroll
    for (int across = 0; across < kAcross; across += kStep) {
      if (kAcross % kStep != 0 && across + first >= kAcross) continue;
      Wide<typename P::Data> x[kLanes];
      from.Read(seat, (kAlongDepth ? line : depth) + first + across, x);
      Pack<typename P::Stored> pack;
#pragma unroll
      for (int i = 0; i < kLanes; ++i) Narrow(x[i], pack.lane[i]);
      if constexpr (kDepthInside || !kAlongDepth) {
        to.SetPack(kAlongDepth ? At(first + across, along) : At(along, first + across), pack);
      } else {
#pragma unroll
        for (int i = 0; i < kLanes; ++i) to.Set(At(first + across, along + i), pack.lane[i]);
      }
    }
  }
};

template <class P, bool kLeftAlongDepth, bool kRightAlongDepth, bool kTensor = P::kTensor>
class Sums;

// Sixteen by sixteen threads, each with neighbouring rows and columns.
template <class P, bool kLeftAlongDepth, bool kRightAlongDepth>
class Sums<P, kLeftAlongDepth, kRightAlongDepth, false> {
 public:
  using T = typename P::Stored;
  static constexpr int kM = P::kRows / 16;
  static constexpr int kN = P::kColumns / 16;
  static constexpr int kLanes = Pack<T>::kLanes;

  MAAM_DEVICE void Add(Shared<T> left, Shared<T> right) {
    const int row = threadIdx.x / 16 * kM;
    const int column = threadIdx.x % 16 * kN;
#pragma unroll 4
    for (int depth = 0; depth < P::kDepth; ++depth) {
      T l[kM], r[kN];
      Get(left, Slab<P, P::kRows, kLeftAlongDepth>::At(row, depth), l);
      Get(right, Slab<P, P::kColumns, kRightAlongDepth>::At(column, depth), r);
#pragma unroll
      for (int i = 0; i < kM; ++i) {
#pragma unroll
        for (int j = 0; j < kN; ++j) x_[i][j] = fma(l[i], r[j], x_[i][j]);
      }
    }
  }

  MAAM_DEVICE void Write(Shared<T> to, int stride) const {
    const int row = threadIdx.x / 16 * kM;
    const int column = threadIdx.x % 16 * kN;
#pragma unroll
    for (int i = 0; i < kM; ++i) {
#pragma unroll
      for (int j = 0; j < kN; j += kLanes) {
        Pack<T> pack;
#pragma unroll
        for (int lane = 0; lane < kLanes; ++lane) pack.lane[lane] = x_[i][j + lane];
        to.SetPack((row + i) * stride + column + j, pack);
      }
    }
  }

 private:
  template <int kCount>
  MAAM_DEVICE static void Get(Shared<T> from, int at, T (&x)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; i += kLanes) {
      const Pack<T> pack = from.GetPack(at + i);
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) x[i + lane] = pack.lane[lane];
    }
  }

  T x_[kM][kN] = {};
};

// Four by two warps, each with two by two fragments.
template <class P, bool kLeftAlongDepth, bool kRightAlongDepth>
class Sums<P, kLeftAlongDepth, kRightAlongDepth, true> {
 public:
  using T = typename P::Stored;
  static constexpr int kM = 2;
  static constexpr int kN = 2;

  MAAM_DEVICE Sums() {
#pragma unroll
    for (auto& row : x_) {
#pragma unroll
      for (auto& x : row) x.Clear();
    }
  }

  MAAM_DEVICE void Add(Shared<T> left, Shared<T> right) {
    using Left = Slab<P, P::kRows, kLeftAlongDepth>;
    using Right = Slab<P, P::kColumns, kRightAlongDepth>;
#pragma unroll
    for (int depth = 0; depth < P::kDepth; depth += kStepDepth<T>) {
      OperandFragment<T, kLeftAlongDepth, true> l[kM];
      OperandFragment<T, kRightAlongDepth, false> r[kN];
#pragma unroll
      for (int i = 0; i < kM; ++i) l[i].Read(left.From(Left::At(Row() + i * kBlock, depth)), Left::kStride);
#pragma unroll
      for (int j = 0; j < kN; ++j) r[j].Read(right.From(Right::At(Column() + j * kBlock, depth)), Right::kStride);
#pragma unroll
      for (int i = 0; i < kM; ++i) {
#pragma unroll
        for (int j = 0; j < kN; ++j) x_[i][j].Add(l[i], r[j]);
      }
    }
  }

  MAAM_DEVICE void Write(Shared<float> to, int stride) const {
#pragma unroll
    for (int i = 0; i < kM; ++i) {
#pragma unroll
      for (int j = 0; j < kN; ++j) {
        x_[i][j].Write(to.From((Row() + i * kBlock) * stride + Column() + j * kBlock), stride);
      }
    }
  }

 private:
  MAAM_DEVICE static int Row() { return threadIdx.x / kWarp / 2 * (kM * kBlock); }
  MAAM_DEVICE static int Column() { return threadIdx.x / kWarp % 2 * (kN * kBlock); }

  SumFragment<T> x_[kM][kN];
};

// Shared memory of a product: the slabs, and in the same place later the result, kRows lines of kStride sums.
template <class P, bool kLeftAlongDepth, bool kRightAlongDepth>
struct Product {
  using Left = Slab<P, P::kRows, kLeftAlongDepth>;
  using Right = Slab<P, P::kColumns, kRightAlongDepth>;
  using Sum = typename P::Sum;
  static constexpr int kStride = P::kColumns + 16 / static_cast<int>(sizeof(Sum));
  static constexpr int kResultBytes = P::kRows * kStride * static_cast<int>(sizeof(Sum));
  static constexpr int kSlabBytes = Left::kBytes + Right::kBytes;
  static constexpr int kBytes = kResultBytes > kSlabBytes ? kResultBytes : kSlabBytes;

  // Rows from `row`, columns from `column`, over the depth [begin, end). Begins after a barrier of the caller's or with
  // memory nobody uses, and ends with a barrier.
  template <class L, class R>
  MAAM_DEVICE static void Run(const L& left, int64_t row, const R& right, int64_t column, int64_t begin, int64_t end,
                              unsigned char* memory) {
    const Shared<typename P::Stored> l(memory);
    const Shared<typename P::Stored> r(memory + Left::kBytes);
    Sums<P, kLeftAlongDepth, kRightAlongDepth> sums;
    for (int64_t depth = begin; depth < end; depth += P::kDepth) {
      if (depth != begin) __syncthreads();
      Left::Fill(left, row, depth, l);
      Right::Fill(right, column, depth, r);
      __syncthreads();
      sums.Add(l, r);
    }
    __syncthreads();
    sums.Write(Shared<Sum>(memory), kStride);
    __syncthreads();
  }
};

}  // namespace maam::cuda
