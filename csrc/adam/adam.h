// One step of Adam for all parameters of a net at once, in float32, in place. With L2 weight decay and loss scale:
//
//   g = (grad + decay w) scale
//   m = m + (1 - beta1) (g - m)
//   v = v + (1 - beta2) (g g - v)
//   w = w - rate m' / (sqrt(v) + eps)      m' = m, or beta1 m + (1 - beta1) g with Nesterov's momentum
//   rate = learning rate * sqrt(1 - beta2^t) / (1 - beta1^t)
//
// With decoupled weight decay, as nn.AdamWeightDecay has it, without correction of the bias:
//
//   g = grad
//   w = w - rate (m / (sqrt(v) + eps) + decay w)
//   rate = learning rate
//
// Each element of w, m, v is read and written once: what the update costs is memory traffic.
#pragma once

#include <cstdint>
#include <vector>

#include "core/isa.h"

namespace maam {

// One parameter and its state, overwritten, and its gradient; `size` elements each, which do not overlap.
struct AdamParameter {
  int64_t size = 0;
  float decay = 0;
  float* weight = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  const float* gradient = nullptr;
};

enum class AdamRule { kPlain, kNesterov, kDecoupled };

struct AdamUpdate {
  float rate = 0;
  float beta1 = 0;
  float beta2 = 0;
  float eps = 0;
  float scale = 1;
  AdamRule rule = AdamRule::kPlain;
  std::vector<AdamParameter> parameters;
};

// The operator: picks the variant and the threads. Every element is computed by itself, so threads do not show.
void RunAdamUpdate(const AdamUpdate& p);
Isa AdamUpdateIsa();

}  // namespace maam
