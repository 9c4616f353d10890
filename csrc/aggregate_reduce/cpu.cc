// The softmax and its gradient around the kernels of reduce.
#include "aggregate_reduce/aggregate_reduce.h"
#include "reduce/channels.h"

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
  double mean = 0;
  for (int k = 0; k < p->branches; ++k) mean += p->mix[k] * p->dots[k];
  for (int k = 0; k < p->branches; ++k) {
    SetChannel(ParameterDType(p->dtype), dalpha, k, p->mix[k] * (p->dots[k] - mean));
  }
}

}  // namespace maam
