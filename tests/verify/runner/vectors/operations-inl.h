// See vectors.h. Compiled for each instruction set, see core/simd.h.
#pragma once

#include "core/simd.h"
#include "vectors.h"

namespace vectors {
namespace MAAM_ISA {

using namespace maam;
using namespace maam::MAAM_ISA;

// out = f(x, y, z), arrays of one length, a multiple of every vector's. The code is given once for each vector V.
#define VECTOR_OPERATION(name, V, In, Out, ...)                                                  \
  static int Run##name(int, void** params, int*, int64_t** shapes, const char**, void*, void*) { \
    for (int64_t at = 0; at < shapes[0][0]; at += V::kLanes) {                                   \
      [[maybe_unused]] const In* x = static_cast<const In*>(params[0]) + at;                     \
      [[maybe_unused]] const In* y = static_cast<const In*>(params[1]) + at;                     \
      [[maybe_unused]] const In* z = static_cast<const In*>(params[2]) + at;                     \
      Out* out = static_cast<Out*>(params[3]) + at;                                              \
      __VA_ARGS__;                                                                               \
    }                                                                                            \
    return 0;                                                                                    \
  }
#define FLOAT_OPERATION(name, ...) VECTOR_OPERATION(name, F32, float, float, Store(out, __VA_ARGS__))
#define EACH_OPERATION(name, ...)         \
  FLOAT_OPERATION(name##F32, __VA_ARGS__) \
  VECTOR_OPERATION(name##F64, F64, double, double, Store(out, __VA_ARGS__))

EACH_OPERATION(Copy, Load(x))
EACH_OPERATION(Set, Set(*x))
EACH_OPERATION(Add, Add(Load(x), Load(y)))
EACH_OPERATION(Sub, Sub(Load(x), Load(y)))
EACH_OPERATION(Mul, Mul(Load(x), Load(y)))
EACH_OPERATION(Fma, Fma(Load(x), Load(y), Load(z)))
EACH_OPERATION(WherePositive, WherePositive(Load(x), Load(y)))
EACH_OPERATION(Relu, Relu(Load(x)))
EACH_OPERATION(ZipLow, ZipLow(Load(x), Load(y)))
EACH_OPERATION(ZipHigh, ZipHigh(Load(x), Load(y)))
FLOAT_OPERATION(Div, Div(Load(x), Load(y)))
FLOAT_OPERATION(Sqrt, Sqrt(Load(x)))
FLOAT_OPERATION(Max, Max(Load(x), Load(y)))
FLOAT_OPERATION(WhereGreater, WhereGreater(Load(x), Load(y), Load(z), Load(x)))
FLOAT_OPERATION(WhereEqual, WhereEqual(Load(x), Load(y), Load(z)))
VECTOR_OPERATION(LoadHalf, F32, Half, float, Store(out, Load(x)))
VECTOR_OPERATION(StoreHalf, F32, float, Half, Store(out, Load(x)))
VECTOR_OPERATION(LoadBFloat16, F32, BFloat16, float, Store(out, Load(x)))
VECTOR_OPERATION(StoreBFloat16, F32, float, BFloat16, Store(out, Load(x)))
VECTOR_OPERATION(LoadBytes, F32, uint8_t, float, Store(out, LoadBytes(x)))
VECTOR_OPERATION(StoreBytes, F32, float, uint8_t, StoreBytes(out, Load(x)))
VECTOR_OPERATION(SumLanesF32, F32, float, double, out[0] = SumLanes(Load(x)))
VECTOR_OPERATION(SumLanesF64, F64, double, double, out[0] = SumLanes(Load(x)))

// By way of memory that is aligned as such a store asks for.
template <class T>
MAAM_INLINE void StreamVector(T* out, const T* x) {
  alignas(64) T buffer[Vec<T>::kLanes];
  Stream(buffer, Load(x));
  FenceStreams();
  Store(out, Load(static_cast<const T*>(buffer)));
}
VECTOR_OPERATION(StreamF32, F32, float, float, StreamVector(out, x))
VECTOR_OPERATION(StreamF64, F64, double, double, StreamVector(out, x))

// x of fewer elements than a vector, read into a whole one, whole and again as few.
template <class T>
static int First(int, void** params, int*, int64_t** shapes, const char**, void*, void*) {
  const int64_t n = shapes[0][0];
  const Vec<T> x = LoadFirst(static_cast<const T*>(params[0]), n);
  typename Vec<T>::Element* whole = static_cast<typename Vec<T>::Element*>(params[1]);
  Store(whole, x);
  StoreFirst(static_cast<T*>(params[2]), x, n);
  return 0;
}

#define LISTED(name) {#name, &Run##name}
#define EACH_LISTED(name) LISTED(name##F32), LISTED(name##F64)
constexpr Operation kOperations[] = {EACH_LISTED(Copy),
                                     EACH_LISTED(Set),
                                     EACH_LISTED(Add),
                                     EACH_LISTED(Sub),
                                     EACH_LISTED(Mul),
                                     EACH_LISTED(Fma),
                                     EACH_LISTED(WherePositive),
                                     EACH_LISTED(Relu),
                                     EACH_LISTED(ZipLow),
                                     EACH_LISTED(ZipHigh),
                                     EACH_LISTED(Stream),
                                     EACH_LISTED(SumLanes),
                                     LISTED(Div),
                                     LISTED(Sqrt),
                                     LISTED(Max),
                                     LISTED(WhereGreater),
                                     LISTED(WhereEqual),
                                     LISTED(LoadHalf),
                                     LISTED(StoreHalf),
                                     LISTED(LoadBFloat16),
                                     LISTED(StoreBFloat16),
                                     LISTED(LoadBytes),
                                     LISTED(StoreBytes),
                                     {"FirstF32", &First<float>},
                                     {"FirstF64", &First<double>},
                                     {"FirstHalf", &First<Half>},
                                     {"FirstBFloat16", &First<BFloat16>}};

}  // namespace MAAM_ISA

Operations MAAM_VARIANT(operations)() {
  return {MAAM_ISA::kOperations, sizeof MAAM_ISA::kOperations / sizeof(Operation)};
}

}  // namespace vectors
