// F = ReLU(scale * (W G) + shift) by output channel: 1x1 convolution, folded batch normalisation and ReLU, inference.
//
// G is (B, C, pixels) as it lies in memory, so W G is a matrix product of each image without any transposition. The
// cube leaves a block of it, float32, in this worker's part of the workspace: on these chips the vector cores are
// reached through global memory in any case, and the block is small enough to stay in the L2 cache. The vector part
// reads it back, scales, shifts, clips, rounds once and writes F.
#pragma once

#include "agent_reduce_tiling.h"
#include "lib/matmul_intf.h"
#include "maam_ascend.h"

namespace reduce {

using namespace maam_ascend;

__aicore__ inline uint32_t RoundUp(uint32_t value, uint32_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

template <class T>
class Inference {
 public:
  using Data = AscendC::MatmulType<AscendC::TPosition::GM, CubeFormat::ND, T>;
  using Product = AscendC::MatmulType<AscendC::TPosition::GM, CubeFormat::ND, float>;
  AscendC::Matmul<Data, Data, Product, Product> matmul;

  __aicore__ inline void Init(GM_ADDR g, GM_ADDR weight, GM_ADDR scale, GM_ADDR shift, GM_ADDR f, GM_ADDR workspace,
                              const AgentReduceTiling& tiling, TPipe* pipe) {
    tiling_ = tiling;
    pipe_ = pipe;
    const uint64_t block_size = static_cast<uint64_t>(tiling.outputs) * tiling.block;
    g_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(g), tiling.images * tiling.channels * tiling.pixels);
    weight_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(weight), tiling.outputs * tiling.channels);
    f_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(f), tiling.images * tiling.outputs * tiling.pixels);
    product_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(workspace) + AscendC::GetBlockIdx() * block_size,
                             block_size);
    pipe->InitBuffer(in_, 2, tiling.rows * RoundUp(tiling.block, kFloats) * sizeof(float));
    pipe->InitBuffer(out_, 2, tiling.rows * RoundUp(tiling.block, kElements) * sizeof(T));
    pipe->InitBuffer(vectors_, 2 * RoundUp(tiling.outputs, kFloats) * sizeof(float));
    LoadVectors(scale, shift);
  }

  __aicore__ inline void Process() {
    const uint64_t units = tiling_.images * tiling_.blocks;
    for (uint64_t unit = AscendC::GetBlockIdx(); unit < units; unit += tiling_.workers) {
      const uint64_t image = unit / tiling_.blocks;
      const uint64_t pixel = unit % tiling_.blocks * tiling_.block;
      const uint64_t left = tiling_.pixels - pixel;
      const uint32_t count = left < tiling_.block ? static_cast<uint32_t>(left) : tiling_.block;
      Multiply(image, pixel, count);
      for (uint32_t row = 0; row < tiling_.outputs; row += tiling_.rows) {
        const uint32_t rows = tiling_.outputs - row < tiling_.rows ? tiling_.outputs - row : tiling_.rows;
        Load(row, rows, count);
        Compute(row, rows, count);
        Save(image, pixel, row, rows, count);
      }
      Order<HardEvent::MTE2_S>(pipe_);  // the cube overwrites the product only after it was read
    }
    matmul.End();
  }

 private:
  static constexpr uint32_t kFloats = 8;  // of a data block
  static constexpr uint32_t kElements = 32 / sizeof(T);

  // scale and shift are read by the scalar unit, one value for each row.
  __aicore__ inline void LoadVectors(GM_ADDR scale, GM_ADDR shift) {
    GlobalTensor<float> source;
    const LocalTensor<float> vectors = vectors_.template Get<float>();
    source.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(scale), tiling_.outputs);
    CopyIn(vectors, source, tiling_.outputs);
    source.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(shift), tiling_.outputs);
    CopyIn(vectors[RoundUp(tiling_.outputs, kFloats)], source, tiling_.outputs);
    Order<HardEvent::MTE2_S>(pipe_);
  }

  __aicore__ inline void Multiply(uint64_t image, uint64_t pixel, uint32_t count) {
    const int outputs = static_cast<int>(tiling_.outputs);
    const int channels = static_cast<int>(tiling_.channels);
    matmul.SetOrgShape(outputs, static_cast<int>(tiling_.pixels), channels, channels, static_cast<int>(count));
    matmul.SetSingleShape(outputs, static_cast<int>(count), channels);
    matmul.SetTensorA(weight_);
    matmul.SetTensorB(g_[image * tiling_.channels * tiling_.pixels + pixel]);
    matmul.IterateAll(product_);
  }

  __aicore__ inline void Load(uint32_t row, uint32_t rows, uint32_t count) {
    LocalTensor<float> in = in_.template AllocTensor<float>();
    const AscendC::DataCopyExtParams params{static_cast<uint16_t>(rows), static_cast<uint32_t>(count * sizeof(float)),
                                            0, 0, 0};
    const AscendC::DataCopyPadExtParams<float> no_padding{};
    AscendC::DataCopyPad(in, product_[static_cast<uint64_t>(row) * count], params, no_padding);
    in_.EnQue(in);
  }

  __aicore__ inline void Compute(uint32_t row, uint32_t rows, uint32_t count) {
    LocalTensor<float> in = in_.template DeQue<float>();
    LocalTensor<T> out = out_.template AllocTensor<T>();
    const LocalTensor<float> vectors = vectors_.template Get<float>();
    const uint32_t shifts = RoundUp(tiling_.outputs, kFloats);
    const uint32_t stride = RoundUp(count, kFloats);
    const int32_t length = static_cast<int32_t>(count);
    for (uint32_t r = 0; r < rows; ++r) {
      AscendC::Muls(in[r * stride], in[r * stride], vectors.GetValue(row + r), length);
    }
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t r = 0; r < rows; ++r) {
      AscendC::Adds(in[r * stride], in[r * stride], vectors.GetValue(shifts + row + r), length);
    }
    AscendC::PipeBarrier<PIPE_V>();
    if constexpr (IsFloat<T>::value) {
      AscendC::Maxs(out, in, 0.0f, static_cast<int32_t>(rows * stride));
    } else {
      AscendC::Maxs(in, in, 0.0f, static_cast<int32_t>(rows * stride));
      AscendC::PipeBarrier<PIPE_V>();
      for (uint32_t r = 0; r < rows; ++r) {
        AscendC::Cast(out[r * RoundUp(count, kElements)], in[r * stride], AscendC::RoundMode::CAST_RINT, count);
      }
    }
    out_.EnQue(out);
    in_.FreeTensor(in);
  }

  __aicore__ inline void Save(uint64_t image, uint64_t pixel, uint32_t row, uint32_t rows, uint32_t count) {
    LocalTensor<T> out = out_.template DeQue<T>();
    const uint32_t gap = static_cast<uint32_t>((tiling_.pixels - count) * sizeof(T));
    const AscendC::DataCopyExtParams params{static_cast<uint16_t>(rows), static_cast<uint32_t>(count * sizeof(T)), 0,
                                            gap, 0};
    AscendC::DataCopyPad(f_[(image * tiling_.outputs + row) * tiling_.pixels + pixel], out, params);
    out_.FreeTensor(out);
  }

  AgentReduceTiling tiling_;
  TPipe* pipe_;
  GlobalTensor<T> g_;
  GlobalTensor<T> weight_;
  GlobalTensor<T> f_;
  GlobalTensor<float> product_;
  AscendC::TQue<AscendC::TPosition::VECIN, 2> in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, 2> out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> vectors_;  // scale, then shift
};

}  // namespace reduce
