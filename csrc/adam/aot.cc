// MindSpore's entry point: checks, the call, and shape and dtype inference.
#include "core/aot.h"

#include <cmath>

#include "adam/adam.h"
#include "core/error.h"
#include "core/trace.h"

namespace maam {
namespace {

constexpr const char* kOp = "AdamUpdate";
// constants, decay, learning rate, beta1^t, beta2^t, global step
constexpr int kFirst = 6;

// Parameter i of the call as the state of a parameter with `size` elements.
float* State(const AotCall& call, int i, const char* name, int parameter) {
  const std::string text = std::string(name) + " of parameter " + std::to_string(parameter);
  call.ExpectDType(i, text, DType::kFloat32);
  return static_cast<float*>(call[i].data);
}

AdamUpdate ProblemOf(const AotCall& call) {
  const int count = (call.Count() - kFirst - 1) / 4;
  if (count < 1 || call.Count() != kFirst + 4 * count + 1) {
    Fail(kOp, "arguments", std::to_string(call.Count()), "6, then as many each of w, m, v and gradients, and a result");
  }
  call.ExpectSize(0, "constants", 5);
  call.ExpectSize(1, "decay", count);
  for (int i = 2; i < kFirst; ++i) call.ExpectSize(i, "parameter " + std::to_string(i), 1);
  for (int i = 0; i < kFirst - 1; ++i) call.ExpectDType(i, "parameter " + std::to_string(i), DType::kFloat32);
  call.ExpectDType(kFirst - 1, "global step", DType::kInt32);
  const float* constants = static_cast<const float*>(call[0].data);
  AdamUpdate p;
  p.beta1 = constants[0];
  p.beta2 = constants[1];
  p.eps = constants[2];
  p.scale = constants[3];
  p.nesterov = constants[4] != 0;
  for (int i = 0; i < count; ++i) {
    const std::string of = " of parameter " + std::to_string(i);
    AdamParameter t;
    t.size = call[kFirst + i].Size();
    t.decay = static_cast<const float*>(call[1].data)[i];
    t.weight = State(call, kFirst + i, "value", i);
    t.m = State(call, kFirst + count + i, "first moment", i);
    t.v = State(call, kFirst + 2 * count + i, "second moment", i);
    t.gradient = State(call, kFirst + 3 * count + i, "gradient", i);
    call.ExpectSize(kFirst + count + i, "first moment" + of, t.size);
    call.ExpectSize(kFirst + 2 * count + i, "second moment" + of, t.size);
    call.ExpectSize(kFirst + 3 * count + i, "gradient" + of, t.size);
    p.parameters.push_back(t);
  }
  return p;
}

}  // namespace
}  // namespace maam

// constants (beta1, beta2, eps, gradient scale, Nesterov 0 or 1), decay of each parameter, learning rate, and then,
// overwritten: beta1^t, beta2^t, global step, every w, every m, every v; gradients -> the rate of this step
MAAM_AOT_WITH_INTEGERS(AdamUpdate) {
  maam::AdamUpdate p = maam::ProblemOf(call);
  float* power1 = static_cast<float*>(call[3].data);
  float* power2 = static_cast<float*>(call[4].data);
  *power1 *= p.beta1;
  *power2 *= p.beta2;
  ++*static_cast<int32_t*>(call[5].data);
  p.rate = *static_cast<const float*>(call[2].data) * std::sqrt(1 - *power2) / (1 - *power1);
  const maam::Tensor& rate = call[call.Count() - 1];
  *static_cast<float*>(rate.data) = p.rate;
  int64_t bytes = 0;
  for (const maam::AdamParameter& t : p.parameters) bytes += 7 * t.size * int64_t{sizeof(float)};
  {
    maam::Trace trace("adam_update", maam::AdamUpdateIsa(), rate, bytes);
    maam::RunAdamUpdate(p);
  }
  maam::CheckFinite("AdamUpdate", "rate", rate);
}

MAAM_EXPORT maam::Shape AdamUpdateInferShape(int*, int64_t**, void*) { return {1}; }
MAAM_EXPORT maam::TypeId AdamUpdateInferType(std::vector<maam::TypeId> types, void*) { return types[0]; }
