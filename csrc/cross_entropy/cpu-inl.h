// The kernel, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "core/simd.h"
#include "cross_entropy/kernels.h"

namespace maam {
namespace MAAM_ISA {
namespace cross_entropy {

using V = F32;

// e^x for x <= 0, and NaN for NaN; below -87, where e^x leaves the normal numbers, 0. Two units in the last place.
// Range reduction x = n ln 2 + r with ln 2 in two parts, and the series of e^r to the sixth power.
MAAM_INLINE V ExpOf(V x) {
  typedef int32_t Bits __attribute__((vector_size(sizeof(V))));
  const V shifted = Fma(x, Set(1.44269504f), Set(12582912.0f));  // 1.5 * 2^23: n ends up in the lowest bits
  const V n = Sub(shifted, Set(12582912.0f));
  const V r = Fma(n, Set(2.12194440e-4f), Fma(n, Set(-0.693359375f), x));
  constexpr float kTerms[] = {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  V sum = Set(1.0f / 720);
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) sum = Fma(sum, r, Set(kTerms[i]));
  V scale;
  scale.v = reinterpret_cast<decltype(scale.v)>((reinterpret_cast<Bits>(shifted.v) << 23) + 0x3F800000);
  return Mul(sum, scale);
}
MAAM_INLINE V Exp(V x) {
  const V lowest = Set(-87.0f);
  return Sub(ExpOf(Max(lowest, x)), ExpOf(lowest));  // Max gives its second operand for a NaN
}

// Largest of the lanes.
MAAM_INLINE float MaxLanes(V x) {
  float lanes[V::kLanes];
  Store(lanes, x);
  float largest = lanes[0];
  for (int i = 1; i < V::kLanes; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
  return largest;
}

// A row of logits in working memory, -infinity behind its end.
template <class T>
MAAM_INLINE void LoadLogits(const T* from, int64_t classes, float* row) {
  int64_t i = 0;
  for (; i + V::kLanes <= classes; i += V::kLanes) Store(row + i, Load(from + i));
  if (i == classes) return;
  Store(row + i, LoadFirst(from + i, classes - i));
  for (int64_t rest = classes; rest < i + V::kLanes; ++rest) row[rest] = -__builtin_inff();
}

template <class T>
static void Rows(const CrossEntropy& p, int64_t begin, int64_t end, double scale, float* row, double* losses) {
  const int64_t classes = p.classes;
  const double smoothing = p.smoothing;
  const float share = static_cast<float>(smoothing / static_cast<double>(classes) * scale);
  for (int64_t r = begin; r < end; ++r) {
    T* gradient = static_cast<T*>(p.gradient) + r * classes;
    const int32_t label = p.labels[r];
    losses[r] = 0;
    if (label == p.ignore) {
      for (int64_t i = 0; i < classes; ++i) Assign(gradient[i], 0.0f);
      continue;
    }
    LoadLogits(static_cast<const T*>(p.logits) + r * classes, classes, row);
    const float target = row[label];
    V most = Set(-__builtin_inff());
    for (int64_t i = 0; i < classes; i += V::kLanes) most = Max(Load(row + i), most);
    const float largest = MaxLanes(most);
    double mean = 0;
    if (smoothing > 0) {
      for (int64_t i = 0; i < classes; ++i) mean += static_cast<double>(row[i]);
      mean /= static_cast<double>(classes);
    }
    V sums = Set(0.0f);
    for (int64_t i = 0; i < classes; i += V::kLanes) {
      const V e = Exp(Sub(Load(row + i), Set(largest)));
      Store(row + i, e);
      sums = Add(sums, e);
    }
    const double sum = SumLanes(sums);
    // Above the largest logit, which may be large: differences of logits are exact.
    const double above = __builtin_log(sum);
    losses[r] = (1 - smoothing) * (above + (static_cast<double>(largest) - static_cast<double>(target)));
    if (smoothing > 0) losses[r] += smoothing * (above + (static_cast<double>(largest) - mean));
    const V times = Set(static_cast<float>(scale / sum));
    for (int64_t i = 0; i < classes; i += V::kLanes) Store(row + i, Sub(Mul(Load(row + i), times), Set(share)));
    row[label] -= static_cast<float>((1 - smoothing) * scale);
    int64_t i = 0;
    for (; i + V::kLanes <= classes; i += V::kLanes) Store(gradient + i, Load(row + i));
    if (i < classes) StoreFirst(gradient + i, Load(row + i), classes - i);
  }
}

}  // namespace cross_entropy
}  // namespace MAAM_ISA

void MAAM_VARIANT(cross_entropy)(const CrossEntropy& p, int64_t begin, int64_t end, double scale, float* row,
                                 double* losses) {
  using namespace MAAM_ISA::cross_entropy;
  switch (p.dtype) {
    case DType::kFloat16:
      return Rows<Half>(p, begin, end, scale, row, losses);
    case DType::kBFloat16:
      return Rows<BFloat16>(p, begin, end, scale, row, losses);
    default:
      return Rows<float>(p, begin, end, scale, row, losses);
  }
}

}  // namespace maam
