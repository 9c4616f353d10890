// Mean cross-entropy of logits x (rows, classes) and integer labels t, with its gradient, in one pass over the rows:
//
//   loss_i = (1 - s) (lse(x_i) - x_i[t_i]) + s (lse(x_i) - mean(x_i))       s: label smoothing
//   loss   = sum_i loss_i / count            d x_i = (softmax(x_i) - (1 - s) onehot(t_i) - s / classes) / count
//
// over the `count` rows whose label is not `ignore`; the others add nothing and have gradient 0. lse is the logarithm
// of the sum of exponentials, with the row's maximum taken out: no finite logit overflows.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/isa.h"

namespace maam {

// Labels are in [0, classes) or equal to `ignore`. Halves are computed in float32; their loss is float32.
struct CrossEntropy {
  DType dtype = DType::kFloat32;  // of logits and gradient
  int64_t rows = 0;
  int64_t classes = 0;
  double smoothing = 0;
  int32_t ignore = 0;
  const void* logits = nullptr;
  const int32_t* labels = nullptr;
  void* loss = nullptr;      // one element: float32, or float64 for float64 logits
  void* gradient = nullptr;  // (rows, classes)
};

// The first row whose label is neither a class nor ignored, or -1.
int64_t FirstBadLabel(const CrossEntropy& p);

// The operator: picks the variant and the threads. Bitwise the same result for any thread count. Without a row that
// counts the loss is NaN and the gradient 0.
void RunCrossEntropy(const CrossEntropy& p);
Isa CrossEntropyIsa();
int64_t CrossEntropyScratch(const CrossEntropy& p);

}  // namespace maam
