// The loops, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "ceiling/ceiling.h"
#include "core/simd.h"

namespace maam {
namespace MAAM_ISA {
namespace ceiling {

constexpr int kLanes = F32::kLanes;

template <bool kStream>
MAAM_INLINE void Put(float* p, F32 x) {
  if constexpr (kStream) {
    Stream(p, x);
  } else {
    Store(p, x);
  }
}

// A vector of every stream in turn: the order of an element-wise kernel. The numbers of streams are constants so that
// their pointers live in registers.
template <bool kStream, int kReads, int kWrites>
static void Joined(const BandwidthPass& p, int64_t begin, int64_t end) {
  constexpr int kUnroll = 4;
  const float* in[kReads];
  float* out[kWrites];
  for (int k = 0; k < kReads; ++k) in[k] = p.in[k];
  for (int k = 0; k < kWrites; ++k) out[k] = p.out[k];
  for (int64_t i = begin; i < end; i += kUnroll * kLanes) {
    F32 sums[kUnroll];
    for (int u = 0; u < kUnroll; ++u) sums[u] = Load(in[0] + i + u * kLanes);
    for (int k = 1; k < kReads; ++k) {
      for (int u = 0; u < kUnroll; ++u) sums[u] = Add(sums[u], Load(in[k] + i + u * kLanes));
    }
    for (int k = 0; k < kWrites; ++k) {
      for (int u = 0; u < kUnroll; ++u) Put<kStream>(out[k] + i + u * kLanes, sums[u]);
    }
  }
}

// One stream after the other over a block: fewer streams at a time for the prefetchers and the write buffers.
template <bool kStream>
static void Blocked(const BandwidthPass& p, int64_t begin, int64_t end) {
  constexpr int kSums = 8;  // independent chains: two additions a cycle, four cycles each
  for (int64_t block = begin; block < end; block += kCeilingBlock) {
    F32 sums[kSums];
    for (F32& sum : sums) sum = Set(0.0f);
    for (int k = 0; k < p.reads; ++k) {
      const float* in = p.in[k] + block;
      for (int64_t i = 0; i < kCeilingBlock; i += kSums * kLanes) {
        for (int s = 0; s < kSums; ++s) sums[s] = Add(sums[s], Load(in + i + s * kLanes));
      }
    }
    F32 total = sums[0];
    for (int s = 1; s < kSums; ++s) total = Add(total, sums[s]);
    for (int k = 0; k < p.writes; ++k) {
      float* out = p.out[k] + block;
      for (int64_t i = 0; i < kCeilingBlock; i += kLanes) Put<kStream>(out + i, total);
    }
  }
}

// Calls f with the number of streams as a constant.
template <int kCount, int kMax, class F>
MAAM_INLINE void WithCount(int count, F&& f) {
  if constexpr (kCount <= kMax) {
    if (count == kCount) return f.template operator()<kCount>();
    WithCount<kCount + 1, kMax>(count, f);
  }
}

template <bool kStream>
static void Pass(const BandwidthPass& p, int64_t begin, int64_t end) {
  if (p.blocked) return Blocked<kStream>(p, begin, end);
  WithCount<1, kMaxCeilingReads>(p.reads, [&]<int kReads>() {
    WithCount<1, kMaxCeilingWrites>(p.writes, [&]<int kWrites>() { Joined<kStream, kReads, kWrites>(p, begin, end); });
  });
}

}  // namespace ceiling
}  // namespace MAAM_ISA

void MAAM_VARIANT(ceiling_bandwidth)(const BandwidthPass& p, int64_t begin, int64_t end) {
  using namespace MAAM_ISA;
  if (p.streaming) {
    ceiling::Pass<true>(p, begin, end);
    FenceStreams();
  } else {
    ceiling::Pass<false>(p, begin, end);
  }
}

double MAAM_VARIANT(ceiling_fma)(int64_t iterations, float* sink) {
  using namespace MAAM_ISA;
  // Two multiply-adds a cycle of four cycles each need 8 chains in flight; 12 leave room for a hiccup and fit into
  // 16 registers together with both constants.
  constexpr int kChains = 12;
  const F32 factor = Set(0.5f);
  const F32 term = Set(1.0f);
  F32 chains[kChains];
  for (int c = 0; c < kChains; ++c) chains[c] = Set(static_cast<float>(c));
  for (int64_t i = 0; i < iterations; ++i) {
    for (F32& chain : chains) chain = Fma(chain, factor, term);
  }
  F32 total = chains[0];
  for (int c = 1; c < kChains; ++c) total = Add(total, chains[c]);
  *sink = static_cast<float>(SumLanes(total));
  return 2.0 * static_cast<double>(iterations) * kChains * F32::kLanes;
}

}  // namespace maam
