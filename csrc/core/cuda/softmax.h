// softmax(alpha), the maximum subtracted; every thread computes it for itself, which is cheaper than to hand it round.
#pragma once

#include "aggregate/aggregate.h"
#include "core/cuda/memory.h"

namespace maam::cuda {

// w[branches] to w[kMaxBranches - 1] are zero.
template <class W>
MAAM_DEVICE void Softmax(const W* alpha, int branches, W (&w)[kMaxBranches]) {
  W largest = Load(alpha, 0);
#pragma unroll
  for (int k = 0; k < kMaxBranches; ++k) {
    w[k] = k < branches ? Load(alpha, k) : W(0);
    if (k < branches) largest = w[k] > largest ? w[k] : largest;
  }
  W total = 0;
#pragma unroll
  for (int k = 0; k < kMaxBranches; ++k) {
    w[k] = k < branches ? exp(w[k] - largest) : W(0);
    total += w[k];
  }
#pragma unroll
  for (int k = 0; k < kMaxBranches; ++k) w[k] /= total;
}

}  // namespace maam::cuda
