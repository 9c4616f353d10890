// The kernels, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "aggregate/aggregate.h"
#include "core/simd.h"

namespace maam {
namespace MAAM_ISA {
namespace aggregate {

// Elements handled at a time: dG of one block stays in the L1 cache between the dot products and the products.
constexpr int64_t kBlock = 1024;

// How many elements to skip until p is aligned for streaming stores; all of them if that never happens.
template <class T>
MAAM_INLINE int64_t ElementsToAlignment(const T* p, int64_t size) {
  const uintptr_t width = sizeof(Vec<T>);
  const uintptr_t gap = (width - reinterpret_cast<uintptr_t>(p) % width) % width;
  return gap % sizeof(T) == 0 && static_cast<int64_t>(gap / sizeof(T)) < size ? gap / sizeof(T) : size;
}

template <bool kStream, class T>
MAAM_INLINE void Put(T* p, Vec<T> x) {
  if constexpr (kStream && CanStream<T>::value) {
    Stream(p, x);
  } else {
    Store(p, x);
  }
}

template <class T, int kBranches>
struct Operands {
  using V = Vec<T>;
  const T* a[kBranches];
  V w[kBranches];

  Operands(const AggregateForward& p, const double* weights) {
    for (int k = 0; k < kBranches; ++k) {
      a[k] = static_cast<const T*>(p.a[k]);
      w[k] = Set(static_cast<typename V::Element>(weights[k]));
    }
  }

  V Sum(int64_t i) const {
    V sum = Mul(w[0], Load(a[0] + i));
    for (int k = 1; k < kBranches; ++k) sum = Fma(w[k], Load(a[k] + i), sum);
    return sum;
  }

  V SumFirst(int64_t i, int64_t n) const {
    V sum = Mul(w[0], LoadFirst(a[0] + i, n));
    for (int k = 1; k < kBranches; ++k) sum = Fma(w[k], LoadFirst(a[k] + i, n), sum);
    return sum;
  }
};

template <bool kStream, class T, int kBranches>
static void ForwardLoop(const Operands<T, kBranches>& in, T* g, int64_t begin, int64_t end) {
  constexpr int kLanes = Vec<T>::kLanes;
  int64_t i = begin;
  if constexpr (kStream) {
    const int64_t head = begin + ElementsToAlignment(g + begin, end - begin);
    for (; i + kLanes <= head; i += kLanes) Store(g + i, in.Sum(i));
    if (i < head) StoreFirst(g + i, in.SumFirst(i, head - i), head - i);
    i = head;
  }
  for (; i + 2 * kLanes <= end; i += 2 * kLanes) {
    const Vec<T> first = in.Sum(i);
    const Vec<T> second = in.Sum(i + kLanes);
    Put<kStream>(g + i, first);
    Put<kStream>(g + i + kLanes, second);
  }
  for (; i + kLanes <= end; i += kLanes) Put<kStream>(g + i, in.Sum(i));
  if (i < end) StoreFirst(g + i, in.SumFirst(i, end - i), end - i);
  if constexpr (kStream) FenceStreams();
}

template <class T, int kBranches>
static void Forward(const AggregateForward& p, const double* weights, int64_t begin, int64_t end, bool stream) {
  const Operands<T, kBranches> in(p, weights);
  T* g = static_cast<T*>(p.g);
  stream ? ForwardLoop<true>(in, g, begin, end) : ForwardLoop<false>(in, g, begin, end);
}

// out = w * dg for elements [begin, end).
template <bool kStream, class T>
MAAM_INLINE void Scale(Vec<T> w, const T* dg, T* out, int64_t begin, int64_t end) {
  constexpr int kLanes = Vec<T>::kLanes;
  int64_t i = begin;
  if constexpr (kStream) {
    const int64_t head = begin + ElementsToAlignment(out + begin, end - begin);
    for (; i + kLanes <= head; i += kLanes) Store(out + i, Mul(w, Load(dg + i)));
    if (i < head) StoreFirst(out + i, Mul(w, LoadFirst(dg + i, head - i)), head - i);
    i = head;
  }
  for (; i + kLanes <= end; i += kLanes) Put<kStream>(out + i, Mul(w, Load(dg + i)));
  if (i < end) StoreFirst(out + i, Mul(w, LoadFirst(dg + i, end - i)), end - i);
}

template <bool kStream, class T, int kBranches>
static void BackwardLoop(const AggregateBackward& p, const Operands<T, kBranches>& in, int64_t begin, int64_t end,
                         double* dots) {
  using V = Vec<T>;
  constexpr int kLanes = V::kLanes;
  // Two sums a branch hide the latency of the fused multiply-add as long as the registers last.
  constexpr int kSums = kBranches * 2 + 2 <= kRegisters ? 2 : 1;
  const T* dg = static_cast<const T*>(p.dg);
  V sums[kSums][kBranches];
  for (auto& row : sums) {
    for (V& sum : row) sum = Set(typename V::Element(0));
  }
  for (int64_t block = begin; block < end; block += kBlock) {
    const int64_t block_end = block + kBlock < end ? block + kBlock : end;
    int64_t i = block;
    for (; i + kSums * kLanes <= block_end; i += kSums * kLanes) {
      for (int s = 0; s < kSums; ++s) {
        const V d = Load(dg + i + s * kLanes);
        for (int k = 0; k < kBranches; ++k) sums[s][k] = Fma(d, Load(in.a[k] + i + s * kLanes), sums[s][k]);
      }
    }
    for (; i < block_end; i += kLanes) {
      const int64_t n = block_end - i < kLanes ? block_end - i : kLanes;
      const V d = n == kLanes ? Load(dg + i) : LoadFirst(dg + i, n);
      for (int k = 0; k < kBranches; ++k) {
        sums[0][k] = Fma(d, n == kLanes ? Load(in.a[k] + i) : LoadFirst(in.a[k] + i, n), sums[0][k]);
      }
    }
    for (int k = 0; k < kBranches; ++k) Scale<kStream>(in.w[k], dg, static_cast<T*>(p.da[k]), block, block_end);
  }
  for (int k = 0; k < kBranches; ++k) {
    dots[k] = 0;
    for (int s = 0; s < kSums; ++s) dots[k] += SumLanes(sums[s][k]);
  }
  if constexpr (kStream) FenceStreams();
}

template <class T, int kBranches>
static void Backward(const AggregateBackward& p, const double* weights, int64_t begin, int64_t end, bool stream,
                     double* dots) {
  const Operands<T, kBranches> in(p, weights);
  stream ? BackwardLoop<true>(p, in, begin, end, dots) : BackwardLoop<false>(p, in, begin, end, dots);
}

// Calls f with the number of branches as a compile-time constant, so that weights and sums live in registers.
template <int kBranches, class F>
MAAM_INLINE void WithBranches(int branches, F&& f) {
  if constexpr (kBranches <= kMaxBranches) {
    if (branches == kBranches) return f.template operator()<kBranches>();
    WithBranches<kBranches + 1>(branches, f);
  }
}

}  // namespace aggregate
}  // namespace MAAM_ISA

void MAAM_VARIANT(aggregate_forward)(const AggregateForward& p, const double* weights, int64_t begin, int64_t end,
                                     bool stream) {
  using namespace MAAM_ISA::aggregate;
  WithType(p.dtype, [&]<class T>(T*) {
    WithBranches<kMinBranches>(p.branches,
                               [&]<int kBranches>() { Forward<T, kBranches>(p, weights, begin, end, stream); });
  });
}

void MAAM_VARIANT(aggregate_backward)(const AggregateBackward& p, const double* weights, int64_t begin, int64_t end,
                                      bool stream, double* dots) {
  using namespace MAAM_ISA::aggregate;
  WithType(p.dtype, [&]<class T>(T*) {
    WithBranches<kMinBranches>(
        p.branches, [&]<int kBranches>() { Backward<T, kBranches>(p, weights, begin, end, stream, dots); });
  });
}

}  // namespace maam
