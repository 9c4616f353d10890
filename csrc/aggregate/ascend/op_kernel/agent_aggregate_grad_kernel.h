// Backward: dA_i = w_i dG and d alpha_i = w_i (<dG, A_i> - sum_j w_j <dG, A_j>), all from one sweep that reads dG and
// each A_i once and writes each dA_i once.
//
// d alpha has no atomics in it: every core leaves a row of dot products in the workspace, all cores meet, and core 0
// adds the rows in the order of the cores. The same shape on the same number of cores gives the same bits.
#pragma once

#include "agent_aggregate_common.h"

namespace aggregate {

template <class T>
class Backward {
 public:
  __aicore__ inline void Init(GM_ADDR alpha, GM_ADDR dg, GM_ADDR branches, GM_ADDR dalpha, GM_ADDR dbranches,
                              GM_ADDR workspace, const AgentAggregateTiling& tiling, TPipe* pipe) {
    tiling_ = tiling;
    pipe_ = pipe;
    AscendC::ListTensorDesc in_list(reinterpret_cast<__gm__ void*>(branches));
    AscendC::ListTensorDesc out_list(reinterpret_cast<__gm__ void*>(dbranches));
    for (uint32_t k = 0; k < tiling.branches; ++k) {
      branches_[k].SetGlobalBuffer(in_list.GetDataPtr<T>(k), tiling.size);
      dbranches_[k].SetGlobalBuffer(out_list.GetDataPtr<T>(k), tiling.size);
    }
    dg_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(dg), tiling.size);
    dalpha_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(dalpha), tiling.branches);
    rows_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(workspace), tiling.cores * kRow);
    pipe->InitBuffer(dg_in_, 2, tiling.tile * sizeof(T));
    pipe->InitBuffer(in_, 2, tiling.tile * sizeof(T));
    pipe->InitBuffer(out_, 2, tiling.tile * sizeof(T));
    pipe->InitBuffer(small_, 3 * kRow * sizeof(float));
    pipe->InitBuffer(work_, WorkFloats(tiling.tile) * sizeof(float));
    pipe->InitBuffer(gathered_, tiling.cores * kRow * sizeof(float));
    if constexpr (!IsFloat<T>::value) {
      pipe->InitBuffer(wide_dg_, tiling.tile * sizeof(float));
      pipe->InitBuffer(wide_, tiling.tile * sizeof(float));
    }
    SoftmaxWeights(alpha, tiling.branches, small_.template Get<float>(), pipe, weights_);
  }

  __aicore__ inline void Process() {
    const LocalTensor<float> totals = Small(1);
    const LocalTensor<float> sums = Small(2);
    AscendC::Duplicate(totals, 0.0f, static_cast<int32_t>(kRow));
    AscendC::Duplicate(sums, 0.0f, static_cast<int32_t>(kRow));
    const Range range(tiling_);
    for (uint64_t begin = range.begin; begin < range.end; begin += tiling_.tile) {
      Sweep(begin, TileSize(begin, range.end, tiling_.tile));
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Add(totals, totals, sums, static_cast<int32_t>(kRow));
      AscendC::PipeBarrier<PIPE_V>();
    }
    Order<HardEvent::V_MTE3>(pipe_);
    CopyOut(rows_[AscendC::GetBlockIdx() * kRow], totals, kRow);
    AscendC::PipeBarrier<PIPE_ALL>();  // the row must have left before the others are told so
    AscendC::SyncAll();
    if (AscendC::GetBlockIdx() == 0) WriteAlphaGradient();
  }

  // Floats of scratch that ReduceSum needs for one tile: a value for each 256 bytes, in whole data blocks.
  static __aicore__ inline uint32_t WorkFloats(uint32_t tile) {
    const uint32_t repeats = (tile + 63) / 64;
    return (repeats + kRow - 1) / kRow * kRow;
  }

 private:
  __aicore__ inline LocalTensor<float> Small(uint32_t row) { return small_.template Get<float>()[row * kRow]; }

  __aicore__ inline void Sweep(uint64_t begin, uint32_t count) {
    Load(dg_in_, dg_[begin], count);
    LocalTensor<T> dg = dg_in_.template DeQue<T>();
    if constexpr (!IsFloat<T>::value) {
      AscendC::Cast(wide_dg_.template Get<float>(), dg, AscendC::RoundMode::CAST_NONE, count);
      AscendC::PipeBarrier<PIPE_V>();
    }
    for (uint32_t k = 0; k < tiling_.branches; ++k) {
      Load(in_, branches_[k][begin], count);
      if constexpr (IsFloat<T>::value) {
        Dot(k, dg, count);
        Scale(k, dg, count);
      } else {
        Dot(k, wide_dg_.template Get<float>(), count);
        Scale(k, wide_dg_.template Get<float>(), count);
      }
      Save(k, begin, count);
    }
    dg_in_.FreeTensor(dg);
  }

  __aicore__ inline void Load(AscendC::TQue<AscendC::TPosition::VECIN, 2>& queue, const GlobalTensor<T>& from,
                              uint32_t count) {
    LocalTensor<T> in = queue.template AllocTensor<T>();
    CopyIn(in, from, count);
    queue.EnQue(in);
  }

  // sums[k] = <dG, A_k> over the tile. The products replace A_k, whose tile nobody else needs.
  __aicore__ inline void Dot(uint32_t k, const LocalTensor<float>& dg, uint32_t count) {
    LocalTensor<T> in = in_.template DeQue<T>();
    if constexpr (IsFloat<T>::value) {
      MultiplyAndSum(k, in, dg, count);
    } else {
      LocalTensor<float> wide = wide_.template Get<float>();
      AscendC::Cast(wide, in, AscendC::RoundMode::CAST_NONE, count);
      AscendC::PipeBarrier<PIPE_V>();
      MultiplyAndSum(k, wide, dg, count);
    }
    in_.FreeTensor(in);
  }

  __aicore__ inline void MultiplyAndSum(uint32_t k, const LocalTensor<float>& a, const LocalTensor<float>& dg,
                                        uint32_t count) {
    AscendC::Mul(a, a, dg, static_cast<int32_t>(count));
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::ReduceSum(Small(2)[k], a, work_.template Get<float>(), static_cast<int32_t>(count));
    AscendC::PipeBarrier<PIPE_V>();
  }

  __aicore__ inline void Scale(uint32_t k, const LocalTensor<float>& dg, uint32_t count) {
    LocalTensor<T> out = out_.template AllocTensor<T>();
    if constexpr (IsFloat<T>::value) {
      AscendC::Muls(out, dg, weights_[k], static_cast<int32_t>(count));
    } else {
      LocalTensor<float> wide = wide_.template Get<float>();
      AscendC::Muls(wide, dg, weights_[k], static_cast<int32_t>(count));
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Cast(out, wide, AscendC::RoundMode::CAST_RINT, count);
      AscendC::PipeBarrier<PIPE_V>();  // the next branch overwrites `wide`
    }
    out_.EnQue(out);
  }

  __aicore__ inline void Save(uint32_t k, uint64_t begin, uint32_t count) {
    LocalTensor<T> out = out_.template DeQue<T>();
    CopyOut(dbranches_[k][begin], out, count);
    out_.FreeTensor(out);
  }

  __aicore__ inline void WriteAlphaGradient() {
    const LocalTensor<float> rows = gathered_.template Get<float>();
    const LocalTensor<float> dots = Small(1);
    CopyIn(rows, rows_, tiling_.cores * kRow);
    Order<HardEvent::MTE2_V>(pipe_);
    AscendC::Duplicate(dots, 0.0f, static_cast<int32_t>(kRow));
    for (uint32_t core = 0; core < tiling_.cores; ++core) {
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Add(dots, dots, rows[core * kRow], static_cast<int32_t>(kRow));
    }
    Order<HardEvent::V_S>(pipe_);
    float mean = 0;
    for (uint32_t k = 0; k < tiling_.branches; ++k) mean += weights_[k] * dots.GetValue(k);
    for (uint32_t k = 0; k < tiling_.branches; ++k) dots.SetValue(k, weights_[k] * (dots.GetValue(k) - mean));
    Order<HardEvent::S_MTE3>(pipe_);
    CopyOut(dalpha_, dots, tiling_.branches);
  }

  AgentAggregateTiling tiling_;
  TPipe* pipe_;
  float weights_[kAggregateMaxBranches];
  GlobalTensor<T> dg_;
  GlobalTensor<T> branches_[kAggregateMaxBranches];
  GlobalTensor<T> dbranches_[kAggregateMaxBranches];
  GlobalTensor<float> dalpha_;
  GlobalTensor<float> rows_;
  AscendC::TQue<AscendC::TPosition::VECIN, 2> dg_in_;
  AscendC::TQue<AscendC::TPosition::VECIN, 2> in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, 2> out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> small_;  // rows: softmax, totals of the core, sums of the tile
  AscendC::TBuf<AscendC::TPosition::VECCALC> work_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> gathered_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> wide_dg_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> wide_;
};

}  // namespace aggregate
