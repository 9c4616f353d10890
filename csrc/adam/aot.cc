// MindSpore's entry point: checks, the call, and shape and dtype inference.
#include "core/aot.h"

#include <cmath>

#include "adam/adam.h"
#include "core/error.h"
#include "core/trace.h"

namespace maam {
namespace {

// Parameter i of the call as the state of a parameter with `size` elements.
float* State(const AotCall& call, int i, const char* name, int parameter) {
  const std::string text = std::string(name) + " of parameter " + std::to_string(parameter);
  call.ExpectDType(i, text, DType::kFloat32);
  return static_cast<float*>(call[i].data);
}

constexpr const char* kStates[] = {"a value", "a first moment", "a second moment"};

float* Floats(const AotCall& call, int i) { return static_cast<float*>(call[i].data); }

// The part of a call that both operators have: `constants` numbers that begin with beta1, beta2 and eps, the decays,
// and whatever else is one of the `first` arguments; then as many each of weights, first and second moments and
// gradients, and the result.
AdamUpdate ProblemOf(const AotCall& call, const char* op, int constants, int first) {
  const int count = (call.Count() - first - 1) / 4;
  if (count < 1 || call.Count() != first + 4 * count + 1) {
    Fail(op, "arguments", std::to_string(call.Count()),
         std::to_string(first) + ", then as many each of w, m, v and gradients, and a result");
  }
  call.ExpectSize(0, "constants", constants);
  call.ExpectSize(1, "decay", count);
  for (int i = 2; i < first; ++i) call.ExpectSize(i, "parameter " + std::to_string(i), 1);
  for (int i = 0; i < first - 1; ++i) call.ExpectDType(i, "parameter " + std::to_string(i), DType::kFloat32);
  call.ExpectDType(first - 1, "global step", DType::kInt32);
  AdamUpdate p;
  p.beta1 = Floats(call, 0)[0];
  p.beta2 = Floats(call, 0)[1];
  p.eps = Floats(call, 0)[2];
  for (int i = 0; i < count; ++i) {
    const std::string of = " of parameter " + std::to_string(i);
    AdamParameter t;
    t.size = call[first + i].Size();
    t.decay = Floats(call, 1)[i];
    t.weight = State(call, first + i, "value", i);
    t.m = State(call, first + count + i, "first moment", i);
    t.v = State(call, first + 2 * count + i, "second moment", i);
    t.gradient = State(call, first + 3 * count + i, "gradient", i);
    call.ExpectSize(first + count + i, "first moment" + of, t.size);
    call.ExpectSize(first + 2 * count + i, "second moment" + of, t.size);
    call.ExpectSize(first + 3 * count + i, "gradient" + of, t.size);
    p.parameters.push_back(t);
  }
  return p;
}

// Counts the step, whose argument is number `step`, runs the update, and leaves its rate in the result.
void Run(const AotCall& call, const char* op, int step, const AdamUpdate& p) {
  ++*static_cast<int32_t*>(call[step].data);
  const Tensor& rate = call[call.Count() - 1];
  *static_cast<float*>(rate.data) = p.rate;
  int64_t bytes = 0;
  for (const AdamParameter& t : p.parameters) bytes += 7 * t.size * int64_t{sizeof(float)};
  {
    Trace trace("adam_update", AdamUpdateIsa(), rate, bytes);
    RunAdamUpdate(p);
  }
  CheckFinite(op, "rate", rate);
  // Values and first and second moments, between the step and the gradients.
  const int parameters = static_cast<int>(p.parameters.size());
  for (int i = 0; i < 3 * parameters; ++i) CheckFinite(op, kStates[i / parameters], call[step + 1 + i]);
}

}  // namespace
}  // namespace maam

// constants (beta1, beta2, eps, gradient scale, Nesterov 0 or 1), decay of each parameter, learning rate, and then,
// overwritten: beta1^t, beta2^t, global step, every w, every m, every v; gradients -> the rate of this step
MAAM_AOT_WITH_INTEGERS(AdamUpdate) {
  constexpr const char* kOp = "AdamUpdate";
  maam::AdamUpdate p = maam::ProblemOf(call, kOp, 5, 6);
  p.scale = maam::Floats(call, 0)[3];
  p.rule = maam::Floats(call, 0)[4] != 0 ? maam::AdamRule::kNesterov : maam::AdamRule::kPlain;
  float* power1 = maam::Floats(call, 3);
  float* power2 = maam::Floats(call, 4);
  *power1 *= p.beta1;
  *power2 *= p.beta2;
  p.rate = *maam::Floats(call, 2) * std::sqrt(1 - *power2) / (1 - *power1);
  maam::Run(call, kOp, 5, p);
}

// constants (beta1, beta2, eps), decay of each parameter, learning rate, and then, overwritten: global step, every w,
// every m, every v; gradients -> the rate of this step
MAAM_AOT_WITH_INTEGERS(AdamWeightDecay) {
  constexpr const char* kOp = "AdamWeightDecay";
  maam::AdamUpdate p = maam::ProblemOf(call, kOp, 3, 4);
  p.rule = maam::AdamRule::kDecoupled;
  p.rate = *maam::Floats(call, 2);
  maam::Run(call, kOp, 3, p);
}

MAAM_EXPORT maam::Shape AdamUpdateInferShape(int*, int64_t**, void*) { return {1}; }
MAAM_EXPORT maam::TypeId AdamUpdateInferType(std::vector<maam::TypeId> types, void*) { return types[0]; }
MAAM_EXPORT maam::Shape AdamWeightDecayInferShape(int*, int64_t**, void*) { return {1}; }
MAAM_EXPORT maam::TypeId AdamWeightDecayInferType(std::vector<maam::TypeId> types, void*) { return types[0]; }
