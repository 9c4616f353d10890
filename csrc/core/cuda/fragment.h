// One warp's 16 x 16 blocks of a matrix product: tensor cores behind four names. Where a part has none for a type
// (bfloat16 and TF32 before sm_80), and on the host, where tests run the kernels, the same names are plain loops.
#pragma once

#include "core/cuda/memory.h"
#if defined(__CUDA_ARCH__)
#include <mma.h>
#endif

namespace maam::cuda {

// A float32 whose fraction is cut to the ten bits that tensor cores take.
struct Tf32 {
  float value;
};

MAAM_DEVICE void Narrow(float x, Tf32& out) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  out.value = nvcuda::wmma::__float_to_tf32(x);
#else
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7F800000u) != 0x7F800000u) bits += 0x1000u;  // to nearest, ties away from zero; not NaN and infinity
  bits &= 0xFFFFE000u;
  memcpy(&out.value, &bits, sizeof bits);
#endif
}
MAAM_DEVICE float Widen(Tf32 x) { return x.value; }

constexpr int kBlock = 16;

// Depth of one step of the product.
template <class T>
constexpr int kStepDepth = sizeof(T) == 4 ? 8 : 16;

template <class T>
struct TensorCore {
  static constexpr bool kAvailable = false;
};

#if defined(__CUDA_ARCH__)
namespace wmma = nvcuda::wmma;
template <>
struct TensorCore<Half> {
  static constexpr bool kAvailable = true;
  using Element = __half;
  using Memory = __half;
};
#if __CUDA_ARCH__ >= 800
template <>
struct TensorCore<BFloat16> {
  static constexpr bool kAvailable = true;
  using Element = __nv_bfloat16;
  using Memory = __nv_bfloat16;
};
template <>
struct TensorCore<Tf32> {
  static constexpr bool kAvailable = true;
  using Element = wmma::precision::tf32;
  using Memory = float;
};
#endif
#endif

// kAlongDepth: neighbours in memory are neighbours in depth; otherwise they are neighbouring rows (of the left operand)
// or columns (of the right one). `stride` leads from one line to the next.
template <class T, bool kAlongDepth, bool kLeft, bool kHardware = TensorCore<T>::kAvailable>
class OperandFragment {
 public:
  MAAM_DEVICE void Read(Shared<T> at, int stride) {
    at_ = at;
    stride_ = stride;
  }
  MAAM_DEVICE float Get(int line, int depth) const {
    return Widen(at_.Get(kAlongDepth ? line * stride_ + depth : depth * stride_ + line));
  }

 private:
  Shared<T> at_{nullptr};
  int stride_ = 0;
};

// Sums in float32. In the plain form a lane holds half a row.
template <class T, bool kHardware = TensorCore<T>::kAvailable>
class SumFragment {
 public:
  MAAM_DEVICE void Clear() {
    for (float& x : x_) x = 0;
  }
  template <class L, class R>
  MAAM_DEVICE void Add(const L& left, const R& right) {
    const int lane = threadIdx.x % 32;
    for (int i = 0; i < 8; ++i) {
      for (int depth = 0; depth < kStepDepth<T>; ++depth) {
        x_[i] = fma(left.Get(lane / 2, depth), right.Get(lane % 2 * 8 + i, depth), x_[i]);
      }
    }
  }
  MAAM_DEVICE void Write(Shared<float> to, int stride) const {
    const int lane = threadIdx.x % 32;
    for (int i = 0; i < 8; ++i) to.Set(lane / 2 * stride + lane % 2 * 8 + i, x_[i]);
  }

 private:
  float x_[8];
};

#if defined(__CUDA_ARCH__)
// Left along depth is row-major, right along depth column-major.
template <class T, bool kAlongDepth, bool kLeft>
class OperandFragment<T, kAlongDepth, kLeft, true> {
 public:
  using Memory = typename TensorCore<T>::Memory;
  using Use = std::conditional_t<kLeft, wmma::matrix_a, wmma::matrix_b>;
  using Layout = std::conditional_t<kAlongDepth == kLeft, wmma::row_major, wmma::col_major>;

  MAAM_DEVICE void Read(Shared<T> at, int stride) {
    wmma::load_matrix_sync(fragment, reinterpret_cast<const Memory*>(at.Raw()), stride);
  }

  wmma::fragment<Use, kBlock, kBlock, kStepDepth<T>, typename TensorCore<T>::Element, Layout> fragment;
};

template <class T>
class SumFragment<T, true> {
 public:
  MAAM_DEVICE void Clear() { wmma::fill_fragment(fragment_, 0.0f); }
  template <class L, class R>
  MAAM_DEVICE void Add(const L& left, const R& right) {
    wmma::mma_sync(fragment_, left.fragment, right.fragment, fragment_);
  }
  MAAM_DEVICE void Write(Shared<float> to, int stride) const {
    wmma::store_matrix_sync(to.Raw(), fragment_, stride, wmma::mem_row_major);
  }

 private:
  wmma::fragment<wmma::accumulator, kBlock, kBlock, kStepDepth<T>, float> fragment_;
};
#endif

}  // namespace maam::cuda
