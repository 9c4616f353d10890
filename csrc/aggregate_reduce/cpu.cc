// The softmax and its gradient around the kernels of reduce.
#include "aggregate_reduce/aggregate_reduce.h"

#include "aggregate/aggregate.h"

namespace maam {

void MixBranches(const void* alpha, ReduceOperands* p) {
  AggregateForward aggregate;
  aggregate.dtype = p->dtype;
  aggregate.branches = p->branches;
  aggregate.alpha = alpha;
  SoftmaxWeights(aggregate, p->mix);
}

void RunAggregateReduceBackward(ReduceBackward* p, void* dalpha) {
  RunReduceBackward(p);
  WriteAlphaGradient(ParameterDType(p->dtype), p->branches, p->mix, p->dots, dalpha);
}

}  // namespace maam
