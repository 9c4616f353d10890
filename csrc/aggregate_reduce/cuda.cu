// The softmax and its gradient around the kernels of reduce, which read alpha where it lies.
#include "aggregate_reduce/aggregate_reduce.h"

namespace maam {

void MixBranches(const void* alpha, ReduceOperands* p) { p->alpha = alpha; }

void RunAggregateReduceBackward(ReduceBackward* p, void* dalpha) {
  p->dalpha = dalpha;
  RunReduceBackward(p);
}

}  // namespace maam
