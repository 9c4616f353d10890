// Winograd's minimal filtering F(4x4, 3x3): 4 x 4 pixels of a 3 x 3 convolution from 6 x 6 pixels of its input by 36
// products instead of 144,
//
//     Y = A^T [(G g G^T) * (B^T d B)] A,        dg = G^T [(B^T d B) * (A dY A^T)] G,
//
// here the one-dimensional transforms. Interpolation points 0, +-sqrt(1/2), +-sqrt(2) and infinity: with the usual 0,
// +-1, +-2 the transforms round twice as badly (over 64 channels, measured against float64, rms 0.7e-6 and at most 5e-6
// of the result's rms instead of 1.3e-6 and 21e-6; a direct sum has 0.3e-6 and 3e-6) and cost the same.
// Compiled for each instruction set, see core/simd.h.
#pragma once

#include "core/simd.h"

namespace maam {
namespace MAAM_ISA {

constexpr int kWinogradInput = 6;   // pixels of a tile's input along one side
constexpr int kWinogradOutput = 4;  // and of its result
constexpr int kFrequencies = kWinogradInput * kWinogradInput;

constexpr float kSqrtHalf = 0.70710678118654752f;
constexpr float kSqrtTwo = 1.41421356237309505f;

// B^T d
MAAM_INLINE void WinogradInput(const F32 (&d)[6], F32 (&v)[6]) {
  const F32 a = Set(kSqrtHalf), b = Set(kSqrtTwo), sum = Set(-2.5f);
  const F32 even_a = Fma(Set(-2.0f), d[2], d[4]), odd_a = Mul(a, Fma(Set(-2.0f), d[1], d[3]));
  const F32 even_b = Fma(Set(-0.5f), d[2], d[4]), odd_b = Mul(b, Fma(Set(-0.5f), d[1], d[3]));
  v[0] = Add(Fma(sum, d[2], d[0]), d[4]);
  v[1] = Add(even_a, odd_a);
  v[2] = Sub(even_a, odd_a);
  v[3] = Add(even_b, odd_b);
  v[4] = Sub(even_b, odd_b);
  v[5] = Add(Fma(sum, d[3], d[1]), d[5]);
}

// G g
MAAM_INLINE void WinogradWeight(const F32 (&g)[3], F32 (&u)[6]) {
  const F32 even_a = Mul(Set(-2.0f / 3), Fma(Set(0.5f), g[2], g[0])), odd_a = Mul(Set(-2.0f / 3 * kSqrtHalf), g[1]);
  const F32 even_b = Mul(Set(1.0f / 6), Fma(Set(2.0f), g[2], g[0])), odd_b = Mul(Set(1.0f / 6 * kSqrtTwo), g[1]);
  u[0] = g[0];
  u[1] = Add(even_a, odd_a);
  u[2] = Sub(even_a, odd_a);
  u[3] = Add(even_b, odd_b);
  u[4] = Sub(even_b, odd_b);
  u[5] = g[2];
}

// A^T m
MAAM_INLINE void WinogradOutput(const F32 (&m)[6], F32 (&y)[4]) {
  const F32 even_a = Add(m[1], m[2]), odd_a = Sub(m[1], m[2]);
  const F32 even_b = Add(m[3], m[4]), odd_b = Sub(m[3], m[4]);
  y[0] = Add(m[0], Add(even_a, even_b));
  y[1] = Fma(Set(kSqrtHalf), odd_a, Mul(Set(kSqrtTwo), odd_b));
  y[2] = Fma(Set(0.5f), even_a, Mul(Set(2.0f), even_b));
  y[3] = Fma(Set(0.5f * kSqrtHalf), odd_a, Fma(Set(2 * kSqrtTwo), odd_b, m[5]));
}

// A d
MAAM_INLINE void WinogradOutputGradient(const F32 (&d)[4], F32 (&m)[6]) {
  const F32 even_a = Fma(Set(0.5f), d[2], d[0]), odd_a = Mul(Set(kSqrtHalf), Fma(Set(0.5f), d[3], d[1]));
  const F32 even_b = Fma(Set(2.0f), d[2], d[0]), odd_b = Mul(Set(kSqrtTwo), Fma(Set(2.0f), d[3], d[1]));
  m[0] = d[0];
  m[1] = Add(even_a, odd_a);
  m[2] = Sub(even_a, odd_a);
  m[3] = Add(even_b, odd_b);
  m[4] = Sub(even_b, odd_b);
  m[5] = d[3];
}

// G^T u
MAAM_INLINE void WinogradWeightGradient(const F32 (&u)[6], F32 (&g)[3]) {
  const F32 even_a = Mul(Set(-2.0f / 3), Add(u[1], u[2])), odd_a = Mul(Set(-2.0f / 3 * kSqrtHalf), Sub(u[1], u[2]));
  const F32 even_b = Mul(Set(1.0f / 6), Add(u[3], u[4])), odd_b = Mul(Set(1.0f / 6 * kSqrtTwo), Sub(u[3], u[4]));
  g[0] = Add(u[0], Add(even_a, even_b));
  g[1] = Add(odd_a, odd_b);
  g[2] = Add(u[5], Fma(Set(0.5f), even_a, Mul(Set(2.0f), even_b)));
}

}  // namespace MAAM_ISA
}  // namespace maam
