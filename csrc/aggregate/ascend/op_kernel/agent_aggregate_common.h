// What the forward and the backward kernel share: the softmax of alpha and a core's range.
#pragma once

#include "agent_aggregate_tiling.h"
#include "maam_ascend.h"

namespace aggregate {

using namespace maam_ascend;

constexpr uint32_t kRow = 8;  // floats of one data block: a value per branch

// weights = softmax(alpha) with the maximum subtracted. `buffer` holds kRow floats. The values reach the vector unit as
// scalar operands of its instructions: no tensor of weights is ever made.
__aicore__ inline void SoftmaxWeights(GM_ADDR alpha, uint32_t branches, const LocalTensor<float>& buffer, TPipe* pipe,
                                      float* weights) {
  GlobalTensor<float> source;
  source.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(alpha), branches);
  constexpr float kLowest = -3.4e38f;  // its exponential is 0
  const AscendC::DataCopyExtParams params{1, static_cast<uint32_t>(branches * sizeof(float)), 0, 0, 0};
  const AscendC::DataCopyPadExtParams<float> padding{true, 0, static_cast<uint8_t>(kRow - branches), kLowest};
  AscendC::DataCopyPad(buffer, source, params, padding);
  Order<HardEvent::MTE2_S>(pipe);
  float largest = buffer.GetValue(0);
  for (uint32_t k = 1; k < branches; ++k) {
    const float value = buffer.GetValue(k);
    largest = value > largest ? value : largest;
  }
  Order<HardEvent::S_V>(pipe);
  AscendC::Adds(buffer, buffer, -largest, static_cast<int32_t>(kRow));
  AscendC::PipeBarrier<PIPE_V>();
  AscendC::Exp(buffer, buffer, static_cast<int32_t>(kRow));
  Order<HardEvent::V_S>(pipe);
  float total = 0;
  for (uint32_t k = 0; k < branches; ++k) total += weights[k] = buffer.GetValue(k);
  for (uint32_t k = 0; k < branches; ++k) weights[k] /= total;
}

// The elements of one core.
struct Range {
  uint64_t begin;
  uint64_t end;

  __aicore__ inline explicit Range(const AgentAggregateTiling& tiling) {
    const uint64_t core = AscendC::GetBlockIdx();
    const uint64_t units = tiling.units_per_core + (core < tiling.extra_units ? 1 : 0);
    const uint64_t before = core * tiling.units_per_core + (core < tiling.extra_units ? core : tiling.extra_units);
    begin = before * tiling.unit;
    end = begin + units * tiling.unit;
    if (begin > tiling.size) begin = tiling.size;
    if (end > tiling.size) end = tiling.size;
  }
};

__aicore__ inline uint32_t TileSize(uint64_t begin, uint64_t end, uint32_t tile) {
  return end - begin < tile ? static_cast<uint32_t>(end - begin) : tile;
}

}  // namespace aggregate
