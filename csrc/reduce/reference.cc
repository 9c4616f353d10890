// The oracle: plain loops in double, and the error a kernel may have against it.
#include <cmath>

#include "core/channels.h"
#include "core/oracle.h"
#include "reduce/reduce.h"

namespace maam {
namespace {

// Storing a half rounds by half a step, which for the smallest numbers is not relative to them.
double StorageError(DType dtype, double value) {
  return 0.5 * Epsilon(dtype) * std::abs(value) + (dtype == DType::kFloat16 ? std::ldexp(1.0, -25) : 0);
}

}  // namespace

// A sum of `inputs` products, each of a mixture of `branches`, loses at most one rounding a term; the normalisation
// adds a few, relative to what it subtracts.
void ReduceInferenceReference(const ReduceInference& p, double* f, double* tolerance) {
  const DType compute = ParameterDType(p.dtype);
  for (int64_t i = 0; i < p.batch * p.outputs * p.pixels; ++i) {
    const int64_t pixel = i % p.pixels;
    const int64_t o = i / p.pixels % p.outputs;
    const int64_t image = i / p.pixels / p.outputs;
    double z = 0;
    double magnitude = 0;
    for (int64_t c = 0; c < p.inputs; ++c) {
      const double weight = ElementAt(p.weight_dtype, p.weight, o * p.inputs + c);
      for (int k = 0; k < p.branches; ++k) {
        const double term = weight * p.mix[k] * ElementAt(p.dtype, p.a[k], (image * p.inputs + c) * p.pixels + pixel);
        z += term;
        magnitude += std::abs(term);
      }
    }
    const double mean = ChannelAt(compute, p.moving_mean, o);
    const double scale = ChannelAt(compute, p.gamma, o) / std::sqrt(ChannelAt(compute, p.moving_variance, o) + p.eps);
    const double beta = ChannelAt(compute, p.beta, o);
    const double y = (z - mean) * scale + beta;
    f[i] = y > 0 ? y : 0;
    magnitude = (static_cast<double>(p.inputs + p.branches + 6) * magnitude + 4 * std::abs(mean)) * std::abs(scale);
    tolerance[i] = Epsilon(compute) * (magnitude + 4 * std::abs(beta)) + StorageError(p.dtype, f[i]);
  }
}

}  // namespace maam
