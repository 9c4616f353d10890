// The kernels, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "aggregate/aggregate.h"
#include "core/simd.h"

namespace maam {
namespace MAAM_ISA {
namespace aggregate {

// Vectors taken from one stream before turning to the next: four cache lines. Measured on seven streams at once, that
// moves a third more bytes a second than one vector at a time, and than blocks of a page.
template <class T>
constexpr int kGroup = 256 / (Vec<T>::kLanes * static_cast<int>(sizeof(typename Vec<T>::Element)));

// Elements to skip until p is aligned for streaming stores: less than a vector, if p is aligned to its elements.
template <class T>
MAAM_INLINE int64_t ElementsToAlignment(const T* p) {
  const uintptr_t width = sizeof(Vec<T>);
  return static_cast<int64_t>((width - reinterpret_cast<uintptr_t>(p) % width) % width / sizeof(T));
}

template <class T>
MAAM_INLINE bool CanBeStreamed(const T* p) {
  return CanStream<T>::value && reinterpret_cast<uintptr_t>(p) % sizeof(T) == 0;
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

  // The weighted sums of elements [begin, end), by ordinary stores.
  void SumRange(T* g, int64_t begin, int64_t end) const {
    int64_t i = begin;
    for (; i + V::kLanes <= end; i += V::kLanes) Store(g + i, Sum(i));
    if (i < end) StoreFirst(g + i, SumFirst(i, end - i), end - i);
  }
};

template <bool kStream, class T, int kBranches>
static void ForwardLoop(const Operands<T, kBranches>& in, T* g, int64_t begin, int64_t end) {
  using V = Vec<T>;
  constexpr int64_t kStep = kGroup<T> * V::kLanes;
  int64_t i = begin;
  if constexpr (kStream) {
    const int64_t gap = ElementsToAlignment(g + begin);
    i = begin + gap < end ? begin + gap : end;
    in.SumRange(g, begin, i);
  }
  for (; i + kStep <= end; i += kStep) {
    V sums[kGroup<T>];
    for (int u = 0; u < kGroup<T>; ++u) sums[u] = Mul(in.w[0], Load(in.a[0] + i + u * V::kLanes));
    for (int k = 1; k < kBranches; ++k) {
      for (int u = 0; u < kGroup<T>; ++u) sums[u] = Fma(in.w[k], Load(in.a[k] + i + u * V::kLanes), sums[u]);
    }
    for (int u = 0; u < kGroup<T>; ++u) Put<kStream>(g + i + u * V::kLanes, sums[u]);
  }
  in.SumRange(g, i, end);
  if constexpr (kStream) FenceStreams();
}

template <class T, int kBranches>
static void Forward(const AggregateForward& p, const double* weights, int64_t begin, int64_t end, bool stream) {
  const Operands<T, kBranches> in(p, weights);
  T* g = static_cast<T*>(p.g);
  stream&& CanBeStreamed(g) ? ForwardLoop<true>(in, g, begin, end) : ForwardLoop<false>(in, g, begin, end);
}

// out = w * dg for elements [begin, end), by ordinary stores.
template <class T>
MAAM_INLINE void ScaleRange(Vec<T> w, const T* dg, T* out, int64_t begin, int64_t end) {
  int64_t i = begin;
  for (; i + Vec<T>::kLanes <= end; i += Vec<T>::kLanes) Store(out + i, Mul(w, Load(dg + i)));
  if (i < end) StoreFirst(out + i, Mul(w, LoadFirst(dg + i, end - i)), end - i);
}

template <bool kStream, class T, int kBranches>
static void BackwardLoop(const AggregateBackward& p, const Operands<T, kBranches>& in, int64_t begin, int64_t end,
                         double* dots) {
  using V = Vec<T>;
  constexpr int64_t kLanes = V::kLanes;
  constexpr int64_t kStep = kGroup<T> * kLanes;
  // Two sums a branch hide the latency of the fused multiply-add as long as the registers last.
  constexpr int kSums = 2 * kBranches + kGroup<T> <= kRegisters ? 2 : 1;
  const T* dg = static_cast<const T*>(p.dg);
  T* da[kBranches];
  // Which element goes to which lane of a sum must not depend on alignment, or d alpha would change with the allocator.
  // So the aligned stores run ahead of the sums by a gap of their own for each result.
  int64_t gap[kBranches];
  V sums[kSums][kBranches];
  for (int k = 0; k < kBranches; ++k) {
    da[k] = static_cast<T*>(p.da[k]);
    gap[k] = kStream ? ElementsToAlignment(da[k] + begin) : 0;
    ScaleRange(in.w[k], dg, da[k], begin, begin + gap[k] < end ? begin + gap[k] : end);
    for (auto& row : sums) row[k] = Set(typename V::Element(0));
  }
  int64_t i = begin;
  for (; i + kStep + kLanes <= end; i += kStep) {
    V d[kGroup<T>];
    for (int u = 0; u < kGroup<T>; ++u) d[u] = Load(dg + i + u * kLanes);
    for (int k = 0; k < kBranches; ++k) {
      for (int u = 0; u < kGroup<T>; ++u) {
        sums[u % kSums][k] = Fma(d[u], Load(in.a[k] + i + u * kLanes), sums[u % kSums][k]);
      }
      for (int u = 0; u < kGroup<T>; ++u) {
        const int64_t at = i + gap[k] + u * kLanes;
        Put<kStream>(da[k] + at, Mul(in.w[k], kStream ? Load(dg + at) : d[u]));
      }
    }
  }
  for (int k = 0; k < kBranches; ++k) ScaleRange(in.w[k], dg, da[k], i + gap[k] < end ? i + gap[k] : end, end);
  for (; i < end; i += kLanes) {
    const int64_t n = end - i < kLanes ? end - i : kLanes;
    const V d = n == kLanes ? Load(dg + i) : LoadFirst(dg + i, n);
    for (int k = 0; k < kBranches; ++k) {
      sums[0][k] = Fma(d, n == kLanes ? Load(in.a[k] + i) : LoadFirst(in.a[k] + i, n), sums[0][k]);
    }
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
  for (int k = 0; k < kBranches; ++k) stream = stream && CanBeStreamed(static_cast<const T*>(p.da[k]));
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
    WithBranches<kMinBranches>(p.branches,
                               [&]<int kBranches>() { Backward<T, kBranches>(p, weights, begin, end, stream, dots); });
  });
}

}  // namespace maam
