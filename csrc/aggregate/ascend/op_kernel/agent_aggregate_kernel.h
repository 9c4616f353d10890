// Forward: G = sum_i softmax(alpha)_i A_i. Each element of A_i is read once, each of G written once.
//
// One branch at a time goes through a double-buffered queue, so the tile does not shrink with the number of branches:
// while the vector unit adds branch k, the copy of branch k + 1 is under way, across tiles too.
#pragma once

#include "agent_aggregate_common.h"

namespace aggregate {

template <class T>
class Forward {
 public:
  __aicore__ inline void Init(GM_ADDR alpha, GM_ADDR branches, GM_ADDR g, const AgentAggregateTiling& tiling,
                              TPipe* pipe) {
    tiling_ = tiling;
    AscendC::ListTensorDesc list(reinterpret_cast<__gm__ void*>(branches));
    for (uint32_t k = 0; k < tiling.branches; ++k) {
      branches_[k].SetGlobalBuffer(list.GetDataPtr<T>(k), tiling.size);
    }
    g_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(g), tiling.size);
    pipe->InitBuffer(in_, 2, tiling.tile * sizeof(T));
    pipe->InitBuffer(out_, 2, tiling.tile * sizeof(T));
    pipe->InitBuffer(small_, kRow * sizeof(float));
    if constexpr (!IsFloat<T>::value) {
      pipe->InitBuffer(wide_, tiling.tile * sizeof(float));
      pipe->InitBuffer(sum_, tiling.tile * sizeof(float));
    }
    SoftmaxWeights(alpha, tiling.branches, small_.template Get<float>(), pipe, weights_);
  }

  __aicore__ inline void Process() {
    const Range range(tiling_);
    for (uint64_t begin = range.begin; begin < range.end; begin += tiling_.tile) {
      const uint32_t count = TileSize(begin, range.end, tiling_.tile);
      LocalTensor<T> out = out_.template AllocTensor<T>();
      for (uint32_t k = 0; k < tiling_.branches; ++k) {
        Load(k, begin, count);
        Accumulate(k, out, count);
      }
      Round(out, count);
      out_.EnQue(out);
      Save(begin, count);
    }
  }

 private:
  __aicore__ inline void Load(uint32_t k, uint64_t begin, uint32_t count) {
    LocalTensor<T> in = in_.template AllocTensor<T>();
    CopyIn(in, branches_[k][begin], count);
    in_.EnQue(in);
  }

  // The sum is kept in float32: in the output tile itself, or in a buffer of its own where that is a half type.
  __aicore__ inline void Accumulate(uint32_t k, const LocalTensor<T>& out, uint32_t count) {
    LocalTensor<T> in = in_.template DeQue<T>();
    if constexpr (IsFloat<T>::value) {
      AddScaled(out, in, k, count);
    } else {
      LocalTensor<float> wide = wide_.template Get<float>();
      AscendC::PipeBarrier<PIPE_V>();  // the sum before this one has read `wide`
      AscendC::Cast(wide, in, AscendC::RoundMode::CAST_NONE, count);
      AscendC::PipeBarrier<PIPE_V>();
      AddScaled(sum_.template Get<float>(), wide, k, count);
    }
    in_.FreeTensor(in);
  }

  __aicore__ inline void AddScaled(const LocalTensor<float>& sum, const LocalTensor<float>& in, uint32_t k,
                                   uint32_t count) {
    if (k == 0) {
      AscendC::Muls(sum, in, weights_[0], static_cast<int32_t>(count));
    } else {
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Axpy(sum, in, weights_[k], static_cast<int32_t>(count));
    }
  }

  __aicore__ inline void Round(const LocalTensor<T>& out, uint32_t count) {
    if constexpr (!IsFloat<T>::value) {
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Cast(out, sum_.template Get<float>(), AscendC::RoundMode::CAST_RINT, count);
      AscendC::PipeBarrier<PIPE_V>();  // the next tile overwrites the sum
    }
  }

  __aicore__ inline void Save(uint64_t begin, uint32_t count) {
    LocalTensor<T> out = out_.template DeQue<T>();
    CopyOut(g_[begin], out, count);
    out_.FreeTensor(out);
  }

  AgentAggregateTiling tiling_;
  float weights_[kAggregateMaxBranches];
  GlobalTensor<T> branches_[kAggregateMaxBranches];
  GlobalTensor<T> g_;
  AscendC::TQue<AscendC::TPosition::VECIN, 2> in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, 2> out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> small_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> wide_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> sum_;
};

}  // namespace aggregate
