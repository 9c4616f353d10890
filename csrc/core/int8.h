// What the operators on bytes share: ranges, and the layout of packed weights.
//
// A real number is scale * byte. Activations follow a ReLU, so they are unsigned; their 7 bits and the 8 of the weights
// are the widest with which two products always fit 16 bits (core/simd_int8.h). Weights (outputs, depth) are packed as
//
//     (ceil(outputs / kOutputBlock), ceil(depth / kQuad), kOutputBlock, kQuad),    zeros where there is none,
//
// so that a cache line holds four weights of each of 16 outputs: what one step of any variant takes.
#pragma once

#include <cstdint>

namespace maam {

constexpr int32_t kMaxActivation = 127;
constexpr int32_t kMaxWeight = 127;
constexpr int64_t kOutputBlock = 16;
constexpr int64_t kQuad = 4;
// Longest sum of products that 32 bits hold, with a bias of 2^30 beside it.
constexpr int64_t kMaxDepth = (int64_t{1} << 30) / (kMaxActivation * kMaxWeight);

}  // namespace maam
