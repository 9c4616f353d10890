// Reads the operands that reduce and aggregate_reduce have in common out of a call, and checks them.
#pragma once

#include <string>

#include "core/aot.h"
#include "reduce/reduce.h"

namespace maam {

class ReduceCall {
 public:
  ReduceCall(const AotCall& call, const char* op) : call_(call), op_(op) {}

  // The positions of the weight, which gamma and beta follow, and of the first of the branches.
  void Operands(int weight, int first, int branches, ReduceOperands* p) const;
  // eps and momentum.
  void Constants(int i, ReduceOperands* p, double* eps, double* momentum) const;
  // The constants' position; weight, gamma, beta, moving_mean and moving_variance follow.
  void InferenceOperands(int constants, int first, int branches, ReduceInference* p) const;
  // A parameter by channel; a result of F's shape.
  void* Vector(int i, const char* name, const ReduceOperands& p) const;
  void* Image(int i, const char* name, const ReduceOperands& p) const;
  // The oracle's results: F and its tolerance, both float64, from position i on.
  void RunReference(int i, const ReduceInference& p) const;
  // Throws unless there are the two pixels that a variance takes.
  void ExpectBatch(const ReduceOperands& p) const;
  // The six results of a training step from position i on, and the momentum.
  void TrainingResults(int constants, int i, ReduceTraining* p) const;
  // dW, d gamma and d beta from position i on.
  void ParameterGradients(int i, int weight, ReduceBackward* p) const;
  // dA_k, shaped as a branch.
  void BranchGradient(int i, int branch, int k, ReduceBackward* p) const;

 private:
  const AotCall& call_;
  const char* op_;
};

// Shape and dtype of F, for operands whose weight and first branch stand at these positions.
Shape ReduceResultShape(const int* ndims, int64_t** shapes, int weight, int branch);
std::vector<Shape> ReduceTrainingShapes(const int* ndims, int64_t** shapes, int weight, int branch);
std::vector<TypeId> ReduceTrainingTypes(const std::vector<TypeId>& types, int weight, int branch);

// Bytes of the operands read once: branches, and `results` arrays shaped as F.
int64_t ReduceBytes(const ReduceOperands& p, int branches, int results);

}  // namespace maam
