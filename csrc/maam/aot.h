// Reads the operands that inference and training have in common out of a call, and checks them.
#pragma once

#include <string>
#include <vector>

#include "core/aot.h"
#include "maam/training.h"

namespace maam {

class MaamCall {
 public:
  static constexpr int kFirstBranch = 3;  // behind x, constants and alpha

  // `per_conv_norm` parameters belong to each convolution: weight, gamma, beta and, if five, moving mean and variance.
  // Without `reduces` the call ends at G, and there are no parameters of the reduction. Half images and convolution
  // weights are for kernels that read them.
  MaamCall(const AotCall& call, const char* op, int per_conv_norm, bool reduces = true, bool halves = false)
      : call_(call), op_(op), each_(per_conv_norm), reduces_(reduces), halves_(halves) {}

  // The position of the parameters of branch k; the reduction stands behind the last branch.
  int ConvNormAt(int64_t k) const { return static_cast<int>(kFirstBranch + k * each_); }

  // x, eps and perhaps momentum (float64, `constants` for each normalisation), alpha, and the parameters of `branches`
  // branches and the reduction.
  void Operands(int branches, int constants, MaamInference* p) const;
  double Constant(int i) const { return MaamConstant(static_cast<const double*>(call_[1].data), i); }

  // Data of the given shape, of the type of x.
  void* Data(int i, const std::string& name, const std::vector<int64_t>& shape) const;
  // A float32 argument of the given shape.
  float* Floats(int i, const std::string& name, const std::vector<int64_t>& shape) const;
  void ExpectShape(int i, const std::string& name, const std::vector<int64_t>& shape) const;

  // What the forward of training keeps for the backward.
  double* Moments(int i, const MaamInference& p) const;
  uint8_t* Pixel(int i, const MaamInference& p) const;
  // New moving mean and variance, or gradients of weight, gamma and beta, of each branch and the reduction, from
  // argument `i` on. Both return the position behind.
  int NewStatistics(int i, MaamTraining* p) const;
  int Gradients(int i, MaamBackward* p) const;
  // What the gradient of X is computed from, from argument `i` on, and dX behind it, whose position is returned.
  int InputGradient(int i, MaamInputGradient* p) const;

 private:
  void ExpectSingle(int i, const std::string& name) const;
  ConvNorm ReadConvNorm(int k, const std::string& name, int64_t outputs, int64_t inputs) const;

  const AotCall& call_;
  const char* op_;
  const int each_;
  const bool reduces_;
  const bool halves_;
};

// Of a feature map behind the pooling.
inline Shape PooledShape(const MaamInference& p, int64_t channels) {
  return {p.batch, channels, p.height / 2, p.width / 2};
}

// What training asks of kernels beyond inference.
void ExpectTrainable(const MaamInference& p, const char* op);

// "branch 2", "reduce"
std::string MaamPart(const MaamInference& p, int k);

// For inference of shapes: the branches are as many as alpha has elements.
int64_t BranchesOf(const int* ndims, int64_t** shapes);
inline int64_t HalfExtent(int64_t extent) { return extent < 0 ? extent : extent / 2; }

}  // namespace maam
