// The emulator's stand-in for the high-level matrix product, operands and result in global memory. The call returns
// when the product is there, as the synchronous form does; products and sums are float32.
#pragma once

#include "kernel_operator.h"
#include "kernel_tiling/kernel_tiling.h"

enum class CubeFormat { ND };

namespace AscendC {

template <TPosition position, CubeFormat format, class Type>
struct MatmulType {
  static_assert(position == TPosition::GM && format == CubeFormat::ND, "the only ones emulated");
  using T = Type;
};

template <class A, class B, class C, class Bias>
class Matmul {
  static_assert(sizeof(typename C::T) == sizeof(float), "the only result emulated");

 public:
  void Init(const tiling::TCubeTiling* tiling) { tiling_ = *tiling; }

  // ka and kb are the extents along K of the two operands as stored, kc the row length of the result where it is not n.
  void SetOrgShape(int m, int n, int ka, int kb, int kc = 0) {
    if (ka != kb) throw emulator::Fault("Matmul: operands of different K");
    rows_ = m;
    row_b_ = n;
    row_a_ = ka;
    row_c_ = kc == 0 ? n : kc;
  }
  void SetSingleShape(int m, int n, int k) {
    if (m > tiling_.singleCoreM || n > tiling_.singleCoreN || k > tiling_.singleCoreK) {
      throw emulator::Fault("Matmul: a shape larger than the one that was tiled");
    }
    m_ = m;
    n_ = n;
    k_ = k;
  }
  void SetTensorA(const GlobalTensor<typename A::T>& a, bool transposed = false) {
    if (transposed) throw emulator::Fault("Matmul: transposition is not emulated");
    a_ = a;
  }
  void SetTensorB(const GlobalTensor<typename B::T>& b, bool transposed = false) {
    if (transposed) throw emulator::Fault("Matmul: transposition is not emulated");
    b_ = b;
  }

  void IterateAll(const GlobalTensor<typename C::T>& c) {
    emulator::Core& core = emulator::ThisCore();
    if (m_ == 0 || m_ > rows_ || n_ > row_b_ || n_ > row_c_ || k_ > row_a_) throw emulator::Fault("Matmul: shapes");
    if (core.ScalarKnows(PIPE_MTE2) < core.last_read_of_written_memory) {
      throw emulator::Fault("Matmul: the cube overwrites what pipe MTE2 may still be reading: no event between them");
    }
    for (int i = 0; i < m_; ++i) {
      const auto* a = a_[static_cast<uint64_t>(i) * row_a_].Read(k_);
      sums_.assign(n_, 0.0f);
      for (int k = 0; k < k_; ++k) {
        const auto* b = b_[static_cast<uint64_t>(k) * row_b_].Peek(n_);
        for (int j = 0; j < n_; ++j) sums_[j] += maam::ToFloat(a[k]) * maam::ToFloat(b[j]);
      }
      std::copy(sums_.begin(), sums_.end(), c[static_cast<uint64_t>(i) * row_c_].WriteByCube(n_));
    }
    for (int k = 0; k < k_; ++k) b_[static_cast<uint64_t>(k) * row_b_].Read(n_);  // each row of B moves once
  }
  void End() { m_ = 0; }

 private:
  tiling::TCubeTiling tiling_;
  GlobalTensor<typename A::T> a_;
  GlobalTensor<typename B::T> b_;
  std::vector<float> sums_;
  int rows_ = 0, row_a_ = 0, row_b_ = 0, row_c_ = 0;
  int m_ = 0, n_ = 0, k_ = 0;
};

}  // namespace AscendC

inline void* GetSysWorkSpacePtr() { return nullptr; }
#define REGIST_MATMUL_OBJ(pipe, workspace, matmul, tiling) (void)(workspace), (void)(pipe), (matmul).Init(tiling)
