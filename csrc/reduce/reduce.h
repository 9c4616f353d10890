// 1x1 convolution, batch normalisation and ReLU in one, Eq. 3 of the MAAM paper. With G of shape (batch, C, pixels)
// and W of shape (O, C), for every pixel:
//
//     z = W g                                                       Z is kept for the backward, in training only
//     y = gamma (z - mean) rstd + beta,  rstd = 1 / sqrt(variance + eps)
//     F = y where y > 0, else 0
//
// Inference takes the moving statistics. Training takes those of the batch, with the biased variance; the moving
// variance takes the unbiased one:
//
//     moving = momentum moving + (1 - momentum) batch
//
// With half data the statistics are those of Z before it is rounded, as accurate as a float32 computation, while Z is
// stored in the data type, and F and the backward are computed from what was stored: a sign decided twice is the same.
//
// Backward, with n pixels in the batch and dY = dF where y > 0, else 0:
//
//     d beta = sum dY,   d gamma = sum dY xhat,   xhat = (z - mean) rstd
//     dZ = gamma rstd (dY - d beta / n - xhat d gamma / n)          training
//     dZ = gamma rstd dY                                            frozen (moving) statistics, z computed again
//     dG = W^T dZ,   dW = sum dZ g^T
//
// G may also be given as branches: G = sum_i mix_i A_i is then formed tile by tile in the cache, and never stored.
#pragma once

#include <cstdint>

#include "aggregate/aggregate.h"
#include "core/dtype.h"
#include "core/isa.h"

namespace maam {

// What all forms share. Preconditions: 1 <= branches <= kMaxBranches; a[i] of shape (batch, inputs, pixels) and type
// `dtype`; weight (outputs, inputs) of type `dtype` or ParameterDType(dtype); gamma, beta and statistics (outputs) of
// type ParameterDType(dtype). Buffers do not overlap and need no alignment.
struct ReduceOperands {
  DType dtype = DType::kFloat32;
  DType weight_dtype = DType::kFloat32;
  int64_t batch = 0;
  int64_t inputs = 0;
  int64_t outputs = 0;
  int64_t pixels = 0;  // of one image
  int branches = 1;
  double mix[kMaxBranches] = {1};
  const void* a[kMaxBranches] = {};
  const void* weight = nullptr;
  const void* gamma = nullptr;
  const void* beta = nullptr;

  // Of a device, whose memory the host cannot read: what `mix`, `eps` and `momentum` hold on CPU.
  void* stream = nullptr;
  const void* alpha = nullptr;      // null for one branch
  const void* constants = nullptr;  // eps, momentum
  DType constants_dtype = DType::kFloat64;

  int64_t Pixels() const { return batch * pixels; }
};

struct ReduceInference : ReduceOperands {
  const void* moving_mean = nullptr;
  const void* moving_variance = nullptr;
  double eps = 0;
  void* f = nullptr;  // (batch, outputs, pixels)
};

// At least two pixels.
struct ReduceTraining : ReduceInference {
  double momentum = 0;  // weight of the old value
  void* z = nullptr;    // as f
  void* mean = nullptr;
  void* rstd = nullptr;
  void* new_moving_mean = nullptr;
  void* new_moving_variance = nullptr;
};

// Training: z, mean and rstd as the forward left them. Frozen statistics: z is null, mean and variance are the moving
// ones.
struct ReduceBackward : ReduceOperands {
  const void* df = nullptr;
  const void* z = nullptr;
  const void* mean = nullptr;
  const void* rstd = nullptr;
  const void* variance = nullptr;
  double eps = 0;
  void* da[kMaxBranches] = {};  // mix_i dG
  void* dweight = nullptr;      // type of the weight
  void* dgamma = nullptr;
  void* dbeta = nullptr;
  double dots[kMaxBranches] = {};  // result on CPU, for several branches: <dG, A_i>
  void* dalpha = nullptr;          // result on a device, for several branches

  double Rstd(int64_t channel) const;
};

// eps and momentum as numbers, where the host can read them.
void ReadConstants(const ReduceOperands& p, double* eps, double* momentum);

// The operator: picks the variant and the threads. Bitwise the same result for any thread count.
void RunReduceInference(const ReduceInference& p);
void RunReduceTraining(const ReduceTraining& p);
void RunReduceBackward(ReduceBackward* p);
Isa ReduceIsa();

// reference.cc: F by plain loops in double, and for each element the error that a kernel may have.
void ReduceInferenceReference(const ReduceInference& p, double* f, double* tolerance);

// Working memory of one call, in bytes.
int64_t ReduceForwardScratch(const ReduceOperands& p);
int64_t ReduceBackwardScratch(const ReduceOperands& p);

}  // namespace maam
