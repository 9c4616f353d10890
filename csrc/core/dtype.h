// Element types a kernel may meet, and the names MindSpore gives them at the AOT boundary.
#pragma once

#include <cstdint>
#include <cstring>

namespace maam {

// Integers are labels, counters, what kernels note for one another, such as the place of a maximum, and the data of the
// operators on bytes: an entry point must ask for them (MAAM_AOT_WITH_INTEGERS).
enum class DType { kFloat32, kFloat16, kBFloat16, kFloat64, kInt32, kUInt8, kInt8 };

// Storage-only half types: kernels widen on load, compute in float32 and round to nearest even on store.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

static inline int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kFloat64:
      return 8;
    case DType::kUInt8:
    case DType::kInt8:
      return 1;
    default:
      return 2;
  }
}

static inline const char* Name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat16:
      return "float16";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kUInt8:
      return "uint8";
    case DType::kInt8:
      return "int8";
    case DType::kInt32:
      return "int32";
    default:
      return "float64";
  }
}

// Small parameters (alpha, gamma, beta, statistics) stay float32 beside half data and follow float64 data.
static inline DType ParameterDType(DType data) { return data == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32; }

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct DTypeOf<Half> {
  static constexpr DType value = DType::kFloat16;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::kBFloat16;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kFloat64;
};

// Calls f with a null pointer of the element type, so that a templated kernel is picked by a runtime dtype. Not called
// for integers.
template <class F>
static inline void WithType(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat32:
      return f(static_cast<float*>(nullptr));
    case DType::kFloat16:
      return f(static_cast<Half*>(nullptr));
    case DType::kBFloat16:
      return f(static_cast<BFloat16*>(nullptr));
    case DType::kFloat64:
      return f(static_cast<double*>(nullptr));
    case DType::kUInt8:
    case DType::kInt8:
    case DType::kInt32:
      return;
  }
}

// The same for kernels that compute in float32 alone: nothing is called for float64.
template <class F>
static inline void WithSingleType(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat16:
      return f(static_cast<Half*>(nullptr));
    case DType::kBFloat16:
      return f(static_cast<BFloat16*>(nullptr));
    case DType::kFloat32:
      return f(static_cast<float*>(nullptr));
    default:
      return;
  }
}

// Whether it is one of these.
static inline bool IsSingle(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

// Scalar conversions. `static`: a copy a translation unit, because one compiled for AVX-512 must never be the copy
// the linker keeps for the portable kernels.
static inline float FloatFromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint32_t BitsFromFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float ToFloat(float x) { return x; }
static inline double ToFloat(double x) { return x; }
static inline float ToFloat(BFloat16 x) { return FloatFromBits(static_cast<uint32_t>(x.bits) << 16); }
static inline float ToFloat(Half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1Fu;
  const uint32_t fraction = x.bits & 0x3FFu;
  if (exponent == 0x1Fu) return FloatFromBits(sign | 0x7F800000u | (fraction << 13));
  if (exponent != 0) return FloatFromBits(sign | ((exponent + 112u) << 23) | (fraction << 13));
  const float subnormal = static_cast<float>(fraction) * 5.9604644775390625e-8f;  // 2^-24
  return FloatFromBits(sign | BitsFromFloat(subnormal));
}

static inline void Assign(float& out, float x) { out = x; }
static inline void Assign(double& out, double x) { out = x; }
static inline void Assign(BFloat16& out, float x) {
  const uint32_t bits = BitsFromFloat(x);
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  out.bits = static_cast<uint16_t>(nan ? (bits >> 16) | 0x40u : (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}
static inline void Assign(Half& out, float x) {
  const uint32_t bits = BitsFromFloat(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) {  // NaN: quiet, payload kept
    out.bits = static_cast<uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu));
  } else if (magnitude >= 0x477FF000u) {  // rounds to more than 65504
    out.bits = static_cast<uint16_t>(sign | 0x7C00u);
  } else if (magnitude < 0x38800000u) {  // subnormal half: the addition rounds to a multiple of 2^-24
    out.bits = static_cast<uint16_t>(sign | (BitsFromFloat(FloatFromBits(magnitude) + 0.5f) - 0x3F000000u));
  } else {
    out.bits = static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13));
  }
}

}  // namespace maam
