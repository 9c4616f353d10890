// The oracle: plain loops in double, and the error a kernel may have against it.
#include <algorithm>
#include <cmath>
#include <limits>

#include "aggregate/aggregate.h"

namespace maam {
namespace {

double At(DType dtype, const void* data, int64_t i) {
  double value = 0;
  WithType(dtype, [&]<class T>(T*) { value = static_cast<double>(ToFloat(static_cast<const T*>(data)[i])); });
  return value;
}

void Weights(const AggregateForward& p, double* w) {
  const DType dtype = ParameterDType(p.dtype);
  double largest = At(dtype, p.alpha, 0);
  for (int k = 1; k < p.branches; ++k) largest = std::max(largest, At(dtype, p.alpha, k));
  double total = 0;
  for (int k = 0; k < p.branches; ++k) total += w[k] = std::exp(At(dtype, p.alpha, k) - largest);
  for (int k = 0; k < p.branches; ++k) w[k] /= total;
}

// Distance from 1 to the next number of the type the result is stored in, or of the one it is computed in.
double StorageEpsilon(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return std::ldexp(1.0, -10);
    case DType::kBFloat16:
      return std::ldexp(1.0, -7);
    case DType::kFloat64:
      return std::numeric_limits<double>::epsilon();
    default:
      return std::numeric_limits<float>::epsilon();
  }
}

double ComputeEpsilon(DType dtype) {
  return dtype == DType::kFloat64 ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
}

double SmallestStep(DType dtype) {  // rounding error of a result that is subnormal in its type
  return dtype == DType::kFloat16 ? std::ldexp(1.0, -24) : dtype == DType::kFloat64 ? 5e-324 : 1.5e-45;
}

}  // namespace

void AggregateForwardReference(const AggregateForward& p, double* g) {
  double w[kMaxBranches];
  Weights(p, w);
  for (int64_t i = 0; i < p.size; ++i) {
    g[i] = 0;
    for (int k = 0; k < p.branches; ++k) g[i] += w[k] * At(p.dtype, p.a[k], i);
  }
}

void AggregateBackwardReference(const AggregateBackward& p, double* dalpha, double* const* da) {
  double w[kMaxBranches];
  Weights(p, w);
  double dots[kMaxBranches] = {};
  double mean = 0;
  for (int k = 0; k < p.branches; ++k) {
    for (int64_t i = 0; i < p.size; ++i) {
      const double d = At(p.dtype, p.dg, i);
      da[k][i] = w[k] * d;
      dots[k] += d * At(p.dtype, p.a[k], i);
    }
    mean += w[k] * dots[k];
  }
  for (int k = 0; k < p.branches; ++k) dalpha[k] = w[k] * (dots[k] - mean);
}

// Each weight carries the rounding of exp, of the sum of N and of a division; each product and sum one more.
double AggregateForwardTolerance(const AggregateForward& p, int64_t element) {
  double w[kMaxBranches];
  Weights(p, w);
  double magnitude = 0;
  for (int k = 0; k < p.branches; ++k) magnitude += w[k] * std::abs(At(p.dtype, p.a[k], element));
  return (ComputeEpsilon(p.dtype) * (p.branches + 4) + 0.5 * StorageEpsilon(p.dtype)) * magnitude +
         SmallestStep(p.dtype);
}

// A lane adds at most kTask / lanes products one after the other; lanes and tasks are added in double.
double AggregateAlphaTolerance(const AggregateBackward& p) {
  double w[kMaxBranches];
  Weights(p, w);
  double largest = 0;
  for (int k = 0; k < p.branches; ++k) {
    double magnitude = 0;
    for (int64_t i = 0; i < p.size; ++i) magnitude += std::abs(At(p.dtype, p.dg, i) * At(p.dtype, p.a[k], i));
    largest = std::max(largest, magnitude);
  }
  const double longest_chain = std::min<double>(static_cast<double>(p.size), 32768 / 2);
  return ComputeEpsilon(p.dtype) * (std::sqrt(longest_chain) + p.branches + 8) * largest;
}

}  // namespace maam
