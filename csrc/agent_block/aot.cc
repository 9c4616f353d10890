// MindSpore's entry points: checks, the calls, and shape and dtype inference for graphs with dynamic shapes.
#include "core/aot.h"
#include "agent_block/agent_block.h"
#include "core/error.h"
#include "core/trace.h"

namespace maam {
namespace {

// The saved tensors follow one another in this order, behind A in the forward's results.
enum Saved { kZ, kPooled, kFirstStatistics, kSecondStatistics, kMoments, kSavedCount };
constexpr int kConstants = 4;  // eps and momentum of the first and of the second normalisation

class Reader : public AotReader {
 public:
  using AotReader::AotReader;

  // x, constants, weight, gamma and beta of both convolutions.
  void Block(int moving, AgentBlock* p) {
    const Tensor& x = call_[0];
    const Tensor& first = call_[2];
    const Tensor& second = call_[2 + 3 + moving];
    if (x.shape.size() != 4 || x.shape[1] < 1 || x.shape[2] < 2 || x.shape[3] < 2) {
      Fail(op_, "x", "shape " + x.ShapeText(), "(B, C, H, W) with H and W of at least 2");
    }
    const int64_t kernel = first.shape.size() == 4 ? first.shape[2] : 0;
    if (kernel % 2 == 0 || kernel > 7) {
      Fail(op_, "first weight", "shape " + first.ShapeText(), "a square kernel of size 1, 3, 5 or 7");
    }
    if (second.shape.size() != 4) Fail(op_, "second weight", "shape " + second.ShapeText(), "four dimensions");
    p->batch = x.shape[0];
    p->inputs = x.shape[1];
    p->height = x.shape[2];
    p->width = x.shape[3];
    p->kernel = kernel;
    p->middle = first.shape[0];
    p->channels = second.shape[0];
    if (p->Pixels() < 2) {
      Fail(op_, "x", "shape " + x.ShapeText(), "at least two pixels a channel in training: the variance is undefined");
    }
    p->x = Floats("x", x.shape);
    const double* constants = Doubles("constants", {kConstants});
    p->first.eps = constants[0];
    p->second.eps = constants[1];
    p->first.momentum = constants[2];
    p->second.momentum = constants[3];
    p->first_weight = Floats("first weight", {p->middle, p->inputs, kernel, kernel});
    Norm("first ", p->middle, moving, &p->first);
    p->second_weight = Floats("second weight", {p->channels, p->middle, 3, 3});
    Norm("second ", p->channels, moving, &p->second);
  }

  void Results(const AgentBlock& p, AgentBlockSaved* saved) {
    const int64_t blocks = (p.channels + kChannelBlock - 1) / kChannelBlock;
    saved->z = Floats("z", {p.batch, blocks, p.height, p.width, kChannelBlock});
    saved->pooled = Floats("pooled", {p.batch, blocks, p.height / 2, p.width / 2, kChannelBlock});
    saved->first_statistics = Doubles("first statistics", {2, p.middle});
    saved->second_statistics = Doubles("second statistics", {2, p.channels});
    saved->moments = Doubles("moments", {p.Taps(), p.middle + 1});
  }

 private:
  void Norm(const std::string& name, int64_t channels, int moving, BlockNorm* norm) {
    norm->gamma = Floats(name + "gamma", {channels});
    norm->beta = Floats(name + "beta", {channels});
    if (moving == 0) return;
    norm->moving_mean = Floats(name + "moving_mean", {channels});
    norm->moving_variance = Floats(name + "moving_variance", {channels});
  }
};

int64_t HalfOf(int64_t extent) { return extent < 0 ? extent : extent / 2; }

}  // namespace
}  // namespace maam

// x, constants, weight, gamma, beta, moving_mean, moving_variance of both convolutions
//     -> A, z, pooled, first statistics, second statistics, moments, new moving_mean and moving_variance of both
MAAM_AOT(AgentBlockForward) {
  maam::AgentBlockForward p;
  maam::Reader reader(call, "AgentBlockForward");
  reader.Block(2, &p);
  p.a = reader.Floats("A", {p.batch, p.channels, p.height / 2, p.width / 2});
  reader.Results(p, &p);
  for (int i = 0; i < 4; ++i) p.new_statistics[i] = reader.Floats("new statistics", {i < 2 ? p.middle : p.channels});
  const maam::Tensor& a = call[12];
  {
    maam::Trace trace("agent_block_forward", maam::AgentBlockIsa(), a, call.Bytes(), maam::AgentBlockForwardScratch(p));
    maam::RunAgentBlockForward(p);
  }
  maam::CheckFinite("AgentBlockForward", "A", a);
  for (int i = 4; i > 0; --i) maam::CheckFinite("AgentBlockForward", "new statistics", call[call.Count() - i]);
}

// x, constants, weight, gamma, beta of both convolutions, the forward's saved results, dA -> gradients of both weights,
// gammas and betas
MAAM_AOT(AgentBlockBackward) {
  maam::AgentBlockBackward p;
  maam::Reader reader(call, "AgentBlockBackward");
  reader.Block(0, &p);
  reader.Results(p, &p);
  p.da = reader.Floats("dA", {p.batch, p.channels, p.height / 2, p.width / 2});
  p.gradient[0] = reader.Floats("d first weight", {p.middle, p.inputs, p.kernel, p.kernel});
  p.gradient[1] = reader.Floats("d first gamma", {p.middle});
  p.gradient[2] = reader.Floats("d first beta", {p.middle});
  p.gradient[3] = reader.Floats("d second weight", {p.channels, p.middle, 3, 3});
  p.gradient[4] = reader.Floats("d second gamma", {p.channels});
  p.gradient[5] = reader.Floats("d second beta", {p.channels});
  const maam::Tensor& da = call[8 + maam::kSavedCount];
  {
    maam::Trace trace("agent_block_backward", maam::AgentBlockIsa(), da, call.Bytes(),
                      maam::AgentBlockBackwardScratch(p));
    maam::RunAgentBlockBackward(p);
  }
  for (int i = 6; i > 0; --i) maam::CheckFinite("AgentBlockBackward", "a gradient", call[call.Count() - i]);
}

// x, constants, weight, gamma, beta of both convolutions, the forward's saved results, dA, gradients of gamma and beta
// of the first and of the second normalisation -> dX
MAAM_AOT(AgentBlockInputGradient) {
  maam::AgentBlockInputGradient p;
  maam::Reader reader(call, "AgentBlockInputGradient");
  reader.Block(0, &p);
  reader.Results(p, &p);
  p.da = reader.Floats("dA", {p.batch, p.channels, p.height / 2, p.width / 2});
  for (int k = 0; k < 2; ++k) {
    p.dgamma[k] = reader.Floats("d gamma", {k == 0 ? p.middle : p.channels});
    p.dbeta[k] = reader.Floats("d beta", {k == 0 ? p.middle : p.channels});
  }
  p.dx = reader.Floats("dX", call[0].shape);
  const maam::Tensor& dx = call[call.Count() - 1];
  {
    maam::Trace trace("agent_block_input_gradient", maam::AgentBlockIsa(), dx, call.Bytes(),
                      maam::AgentBlockInputGradientScratch(p));
    maam::RunAgentBlockInputGradient(p);
  }
  maam::CheckFinite("AgentBlockInputGradient", "dX", dx);
}

MAAM_EXPORT std::vector<maam::Shape> AgentBlockForwardInferShape(int* ndims, int64_t** shapes, void*) {
  const maam::Shape x = maam::ShapeAt(ndims, shapes, 0);
  const maam::Shape first = maam::ShapeAt(ndims, shapes, 2);
  const int64_t middle = first[0], channels = shapes[7][0];
  const int64_t blocks = (channels + maam::kChannelBlock - 1) / maam::kChannelBlock;
  const int64_t height = maam::HalfOf(x[2]), width = maam::HalfOf(x[3]);
  return {{x[0], channels, height, width},
          {x[0], blocks, x[2], x[3], maam::kChannelBlock},
          {x[0], blocks, height, width, maam::kChannelBlock},
          {2, middle},
          {2, channels},
          {first[1] * first[2] * first[3], middle + 1},
          {middle},
          {middle},
          {channels},
          {channels}};
}
MAAM_EXPORT std::vector<maam::TypeId> AgentBlockForwardInferType(std::vector<maam::TypeId> types, void*) {
  const maam::TypeId f = types[0], d = types[1];
  return {f, f, f, d, d, d, f, f, f, f};
}
MAAM_EXPORT std::vector<maam::Shape> AgentBlockBackwardInferShape(int* ndims, int64_t** shapes, void*) {
  std::vector<maam::Shape> result;
  for (int i = 2; i < 8; ++i) result.push_back(maam::ShapeAt(ndims, shapes, i));
  return result;
}
MAAM_EXPORT std::vector<maam::TypeId> AgentBlockBackwardInferType(std::vector<maam::TypeId> types, void*) {
  return std::vector<maam::TypeId>(6, types[0]);
}
MAAM_EXPORT maam::Shape AgentBlockInputGradientInferShape(int* ndims, int64_t** shapes, void*) {
  return maam::ShapeAt(ndims, shapes, 0);
}
MAAM_EXPORT maam::TypeId AgentBlockInputGradientInferType(std::vector<maam::TypeId> types, void*) { return types[0]; }
