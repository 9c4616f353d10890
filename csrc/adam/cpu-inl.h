// The kernel, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "adam/kernels.h"
#include "core/simd.h"

namespace maam {
namespace MAAM_ISA {
namespace adam {

using V = F32;

// How far ahead the streams are asked for, in elements: the CPU's own prefetching stops at each 4 KiB page, which took
// a third of the time.
constexpr int64_t kAhead = 256;

struct State {
  V weight, m, v;
};

struct Constants {
  explicit Constants(const AdamUpdate& p, float decay)
      : rate(Set(p.rate)),
        beta1(Set(p.beta1)),
        rest1(Set(1 - p.beta1)),
        rest2(Set(1 - p.beta2)),
        eps(Set(p.eps)),
        scale(Set(p.scale)),
        decay(Set(decay)) {}
  V rate, beta1, rest1, rest2, eps, scale, decay;
};

template <AdamRule kRule>
MAAM_INLINE void Step(const Constants& c, V gradient, State* s) {
  const V g = kRule == AdamRule::kDecoupled ? gradient : Mul(Fma(c.decay, s->weight, gradient), c.scale);
  s->m = Fma(c.rest1, Sub(g, s->m), s->m);
  s->v = Fma(c.rest2, Sub(Mul(g, g), s->v), s->v);
  const V size = Add(Sqrt(s->v), c.eps);
  if constexpr (kRule == AdamRule::kDecoupled) {
    s->weight = Sub(s->weight, Mul(c.rate, Fma(c.decay, s->weight, Div(s->m, size))));
    return;
  }
  const V direction = kRule == AdamRule::kNesterov ? Fma(c.rest1, g, Mul(c.beta1, s->m)) : s->m;
  s->weight = Sub(s->weight, Div(Mul(c.rate, direction), size));
}

template <AdamRule kRule>
static void Update(const AdamUpdate& p, const AdamParameter& t, int64_t begin, int64_t end) {
  const Constants c(p, t.decay);
  int64_t i = begin;
  for (; i + V::kLanes <= end; i += V::kLanes) {
    __builtin_prefetch(t.weight + i + kAhead);
    __builtin_prefetch(t.m + i + kAhead);
    __builtin_prefetch(t.v + i + kAhead);
    __builtin_prefetch(t.gradient + i + kAhead);
    State s{Load(t.weight + i), Load(t.m + i), Load(t.v + i)};
    Step<kRule>(c, Load(t.gradient + i), &s);
    Store(t.weight + i, s.weight);
    Store(t.m + i, s.m);
    Store(t.v + i, s.v);
  }
  if (const int64_t n = end - i; n > 0) {
    State s{LoadFirst(t.weight + i, n), LoadFirst(t.m + i, n), LoadFirst(t.v + i, n)};
    Step<kRule>(c, LoadFirst(t.gradient + i, n), &s);
    StoreFirst(t.weight + i, s.weight, n);
    StoreFirst(t.m + i, s.m, n);
    StoreFirst(t.v + i, s.v, n);
  }
}

}  // namespace adam
}  // namespace MAAM_ISA

void MAAM_VARIANT(adam_update)(const AdamUpdate& p, const AdamParameter& parameter, int64_t begin, int64_t end) {
  using namespace MAAM_ISA::adam;
  switch (p.rule) {
    case AdamRule::kPlain:
      return Update<AdamRule::kPlain>(p, parameter, begin, end);
    case AdamRule::kNesterov:
      return Update<AdamRule::kNesterov>(p, parameter, begin, end);
    case AdamRule::kDecoupled:
      return Update<AdamRule::kDecoupled>(p, parameter, begin, end);
  }
}

}  // namespace maam
