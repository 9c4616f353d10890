// The oracle: plain loops in double, and the error a kernel may have against it.
#include <algorithm>
#include <cmath>

#include "aggregate/aggregate.h"
#include "core/oracle.h"

namespace maam {
namespace {

void Weights(const AggregateForward& p, double* w) {
  const DType dtype = ParameterDType(p.dtype);
  double largest = ElementAt(dtype, p.alpha, 0);
  for (int k = 1; k < p.branches; ++k) largest = std::max(largest, ElementAt(dtype, p.alpha, k));
  double total = 0;
  for (int k = 0; k < p.branches; ++k) total += w[k] = std::exp(ElementAt(dtype, p.alpha, k) - largest);
  for (int k = 0; k < p.branches; ++k) w[k] /= total;
}

// What storing a result costs: half a step of its type, which for the smallest numbers is not relative to them.
double StorageError(DType dtype, double magnitude) {
  const double smallest = dtype == DType::kFloat16 ? std::ldexp(1.0, -24) : dtype == DType::kFloat64 ? 5e-324 : 1.5e-45;
  return 0.5 * Epsilon(dtype) * magnitude + smallest;
}

// Each weight carries the rounding of exp, of the sum of N and of a division; each product and sum one more.
double WeightedError(const AggregateForward& p, double magnitude) {
  return Epsilon(ParameterDType(p.dtype)) * (p.branches + 4) * magnitude + StorageError(p.dtype, magnitude);
}

}  // namespace

void AggregateForwardReference(const AggregateForward& p, double* g, double* tolerance) {
  double w[kMaxBranches];
  Weights(p, w);
  for (int64_t i = 0; i < p.size; ++i) {
    g[i] = 0;
    double magnitude = 0;
    for (int k = 0; k < p.branches; ++k) {
      const double term = w[k] * ElementAt(p.dtype, p.a[k], i);
      g[i] += term;
      magnitude += static_cast<double>(std::abs(term));
    }
    tolerance[i] = WeightedError(p, magnitude);
  }
}

// A lane adds at most 32768 / 2 products one after the other, with errors that are as good as independent; lanes and
// tasks are added in double.
void AggregateBackwardReference(const AggregateBackward& p, double* dalpha, double* da, double* dalpha_tolerance,
                                double* da_tolerance) {
  double w[kMaxBranches];
  Weights(p, w);
  // The plain order of these sums is longer than any of a kernel: in double, it would be the less exact of the two.
  long double dots[kMaxBranches] = {};
  long double mean = 0;
  double largest = 0;
  for (int k = 0; k < p.branches; ++k) {
    double magnitude = 0;
    for (int64_t i = 0; i < p.size; ++i) {
      const double d = ElementAt(p.dtype, p.dg, i);
      const long double term = static_cast<long double>(d) * ElementAt(p.dtype, p.a[k], i);
      da[k * p.size + i] = w[k] * d;
      da_tolerance[k * p.size + i] = WeightedError(p, std::abs(w[k] * d));
      dots[k] += term;
      magnitude += static_cast<double>(std::abs(term));
    }
    mean += w[k] * dots[k];
    largest = std::max(largest, magnitude);
  }
  const double longest_chain = std::min<double>(static_cast<double>(p.size), 32768 / 2);
  for (int k = 0; k < p.branches; ++k) {
    dalpha[k] = static_cast<double>(w[k] * (dots[k] - mean));
    dalpha_tolerance[k] = Epsilon(ParameterDType(p.dtype)) * (std::sqrt(longest_chain) + p.branches + 8) * largest;
  }
}

}  // namespace maam
