// The vector calls in their "first n elements" form. Arithmetic is float32, each operation rounded once.
#pragma once

#include <cmath>

#include "emulator/pipe.h"

namespace AscendC {

enum class RoundMode { CAST_NONE, CAST_RINT, CAST_FLOOR, CAST_CEIL, CAST_ROUND, CAST_TRUNC, CAST_ODD };

template <class T, class U>
void CheckOverlap(const LocalTensor<T>& dst, const LocalTensor<U>& src, uint32_t count) {
  const uint64_t d = dst.Offset(), s = src.Offset();
  const bool disjoint = d + count * sizeof(T) <= s || s + count * sizeof(U) <= d;
  if (!disjoint && d != s) throw emulator::Fault("source and destination overlap in part");
}

// dst[i] = f(src_1[i], src_2[i], ...) as one instruction of the vector pipe.
template <class T, class F, class... Source>
void VectorCall(const LocalTensor<T>& dst, uint32_t count, F&& f, const Source&... src) {
  if (count == 0) throw emulator::Fault("vector call on no element");
  emulator::Core& core = emulator::ThisCore();
  core.Issue(PIPE_V);
  core.statistics.vector_elements += count;
  (CheckOverlap(dst, src, count), ...);
  const auto data = std::make_tuple(src.Read(count)...);
  T* out = dst.Write(count);
  std::apply(
      [&](const auto*... in) {
        for (uint32_t i = 0; i < count; ++i) emulator::Store(out[i], f(maam::ToFloat(in[i])...));
      },
      data);
}

inline void Duplicate(const LocalTensor<float>& dst, float value, int32_t count) {
  VectorCall(dst, count, [=] { return value; });
}
inline void Add(const LocalTensor<float>& dst, const LocalTensor<float>& a, const LocalTensor<float>& b,
                int32_t count) {
  VectorCall(dst, count, [](float x, float y) { return x + y; }, a, b);
}
inline void Mul(const LocalTensor<float>& dst, const LocalTensor<float>& a, const LocalTensor<float>& b,
                int32_t count) {
  VectorCall(dst, count, [](float x, float y) { return x * y; }, a, b);
}
inline void Adds(const LocalTensor<float>& dst, const LocalTensor<float>& src, float scalar, int32_t count) {
  VectorCall(dst, count, [=](float x) { return x + scalar; }, src);
}
inline void Muls(const LocalTensor<float>& dst, const LocalTensor<float>& src, float scalar, int32_t count) {
  VectorCall(dst, count, [=](float x) { return x * scalar; }, src);
}
inline void Exp(const LocalTensor<float>& dst, const LocalTensor<float>& src, int32_t count) {
  VectorCall(dst, count, [](float x) { return std::exp(x); }, src);
}
inline void Maxs(const LocalTensor<float>& dst, const LocalTensor<float>& src, float scalar, int32_t count) {
  VectorCall(dst, count, [=](float x) { return x > scalar ? x : scalar; }, src);
}
// dst += scalar * src, the product rounded first: what the sum may rely on at least.
inline void Axpy(const LocalTensor<float>& dst, const LocalTensor<float>& src, float scalar, int32_t count) {
  VectorCall(dst, count, [=](float x, float sum) { return sum + scalar * x; }, src, dst);
}

template <class T, class U>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, RoundMode mode, uint32_t count) {
  const bool widens = sizeof(T) > sizeof(U);
  if (mode != (widens ? RoundMode::CAST_NONE : RoundMode::CAST_RINT)) {
    throw emulator::Fault("Cast: only CAST_NONE to a wider type and CAST_RINT to a narrower one are emulated");
  }
  VectorCall(dst, count, [](float x) { return x; }, src);
}

// The documented order of this form on Atlas A2: a binary tree inside each repeat of 256 bytes, repeats one after
// another. The work tensor holds a value per repeat, in whole blocks.
inline void ReduceSum(const LocalTensor<float>& dst, const LocalTensor<float>& src, const LocalTensor<float>& work,
                      int32_t count) {
  constexpr uint32_t kRepeat = 64;
  if (count <= 0) throw emulator::Fault("ReduceSum of no element");
  emulator::Core& core = emulator::ThisCore();
  core.Issue(PIPE_V);
  core.statistics.vector_elements += count;
  const float* in = src.Read(count);
  const uint32_t repeats = (count + kRepeat - 1) / kRepeat;
  work.Write((repeats + 7) / 8 * 8);
  float total = 0;
  for (uint32_t r = 0; r < repeats; ++r) {
    float lanes[kRepeat] = {};
    for (uint32_t i = 0; i < kRepeat && r * kRepeat + i < static_cast<uint32_t>(count); ++i)
      lanes[i] = in[r * kRepeat + i];
    for (uint32_t width = kRepeat; width > 1; width /= 2) {
      for (uint32_t i = 0; i < width / 2; ++i) lanes[i] = lanes[2 * i] + lanes[2 * i + 1];
    }
    total += lanes[0];
  }
  *dst.Write(1, sizeof(float)) = total;
}

}  // namespace AscendC
