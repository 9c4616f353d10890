// MindSpore's entry points: checks, the calls, and shape and dtype inference for graphs with dynamic shapes.
#include "core/aot.h"
#include "conv_block/conv_block.h"
#include "core/error.h"
#include "core/trace.h"

namespace maam {
namespace {

// eps and momentum. A third constant says that the block ends with a max-pool: inference of shapes is told shapes
// alone.
constexpr int64_t kConstants = 2;

class Reader : public AotReader {
 public:
  using AotReader::AotReader;

  // x, constants, weight, gamma, beta and, where `moving`, the moving statistics.
  void Block(bool moving, ConvBlock* p) {
    const Tensor& x = call_[0];
    const Tensor& weight = call_[2];
    p->pools = call_[1].shape == std::vector<int64_t>{kConstants + 1};
    const int64_t least = p->pools ? 2 : 1;
    if (x.shape.size() != 4 || x.shape[1] < 1 || x.shape[2] < least || x.shape[3] < least) {
      Fail(op_, "x", "shape " + x.ShapeText(), "(B, C, H, W) with H and W of at least " + std::to_string(least));
    }
    if (weight.shape.size() != 4) Fail(op_, "weight", "shape " + weight.ShapeText(), "four dimensions");
    p->batch = x.shape[0];
    p->inputs = x.shape[1];
    p->height = x.shape[2];
    p->width = x.shape[3];
    p->channels = weight.shape[0];
    p->x = Floats("x", x.shape);
    const Tensor& constants = Next("constants", DType::kFloat64, {kConstants + p->pools});
    p->norm.eps = static_cast<const double*>(constants.data)[0];
    p->norm.momentum = static_cast<const double*>(constants.data)[1];
    p->weight = Floats("weight", {p->channels, p->inputs, 3, 3});
    p->norm.gamma = Floats("gamma", {p->channels});
    p->norm.beta = Floats("beta", {p->channels});
    if (!moving) return;
    p->norm.moving_mean = Floats("moving_mean", {p->channels});
    p->norm.moving_variance = Floats("moving_variance", {p->channels});
  }

  // Of the call's operands the last, if it has so many parameters; with pooling there is none.
  const float* Residual(const ConvBlock& p, int parameters) {
    if (call_.Count() < parameters) return nullptr;
    if (p.pools) Fail(op_, "residual", "one beside a max-pool", "one or the other");
    return Result("residual", p);
  }

  float* Result(const std::string& name, const ConvBlock& p) {
    return Floats(name, {p.batch, p.channels, p.ResultHeight(), p.ResultWidth()});
  }

  void Saved(const ConvBlock& p, ConvBlockSaved* saved) {
    const int64_t blocks = CeilDiv(p.channels, kChannelBlock);
    saved->z = Floats("z", {p.batch, blocks, p.height, p.width, kChannelBlock});
    saved->pooled = p.pools ? Floats("pooled", {p.batch, blocks, p.height / 2, p.width / 2, kChannelBlock})
                            : Floats("pooled", {1, 1, 1, 1, 1});
    saved->statistics = Doubles("statistics", {2, p.channels});
  }

  void ExpectTraining(const ConvBlock& p) const {
    if (p.batch * p.height * p.width >= 2) return;
    Fail(op_, "x", "shape " + call_[0].ShapeText(),
         "at least two pixels a channel in training: the variance is undefined");
  }

 private:
};

Shape ResultShape(const int* ndims, int64_t** shapes) {
  const Shape x = ShapeAt(ndims, shapes, 0);
  const int64_t divisor = shapes[1][0] > kConstants ? 2 : 1;
  const auto part = [divisor](int64_t extent) { return extent < 0 ? extent : extent / divisor; };
  return {x[0], shapes[2][0], part(x[2]), part(x[3])};
}

}  // namespace
}  // namespace maam

// x, constants, weight, gamma, beta, moving_mean, moving_variance [, residual] -> A
MAAM_AOT(ConvBlockInference) {
  maam::ConvBlockInference p;
  maam::Reader reader(call, "ConvBlockInference");
  reader.Block(true, &p);
  p.residual = reader.Residual(p, 9);
  p.a = reader.Result("A", p);
  const maam::Tensor& a = call[call.Count() - 1];
  {
    maam::Trace trace("conv_block_inference", maam::ConvBlockIsa(), a, call.Bytes(),
                      maam::ConvBlockInferenceScratch(p));
    maam::RunConvBlockInference(p);
  }
  maam::CheckFinite("ConvBlockInference", "A", a);
}

// x, constants, weight, gamma, beta, moving_mean, moving_variance [, residual]
//     -> A, z, pooled, statistics, new moving_mean and moving_variance
MAAM_AOT(ConvBlockForward) {
  maam::ConvBlockForward p;
  maam::Reader reader(call, "ConvBlockForward");
  reader.Block(true, &p);
  reader.ExpectTraining(p);
  p.residual = reader.Residual(p, 14);
  p.a = reader.Result("A", p);
  reader.Saved(p, &p);
  p.new_mean = reader.Floats("new moving_mean", {p.channels});
  p.new_variance = reader.Floats("new moving_variance", {p.channels});
  const maam::Tensor& a = call[call.Count() - 6];
  {
    maam::Trace trace("conv_block_forward", maam::ConvBlockIsa(), a, call.Bytes(), maam::ConvBlockForwardScratch(p));
    maam::RunConvBlockForward(p);
  }
  maam::CheckFinite("ConvBlockForward", "A", a);
  for (int i = 2; i > 0; --i) maam::CheckFinite("ConvBlockForward", "new statistics", call[call.Count() - i]);
}

// x, constants, weight, gamma, beta, the forward's saved results, dA -> d weight, d gamma, d beta, dX
MAAM_AOT(ConvBlockBackward) {
  maam::ConvBlockBackward p;
  maam::Reader reader(call, "ConvBlockBackward");
  reader.Block(false, &p);
  reader.ExpectTraining(p);
  reader.Saved(p, &p);
  p.da = reader.Result("dA", p);
  p.dweight = reader.Floats("d weight", {p.channels, p.inputs, 3, 3});
  p.dgamma = reader.Floats("d gamma", {p.channels});
  p.dbeta = reader.Floats("d beta", {p.channels});
  p.dx = reader.Floats("dX", call[0].shape);
  const maam::Tensor& dx = call[call.Count() - 1];
  {
    maam::Trace trace("conv_block_backward", maam::ConvBlockIsa(), dx, call.Bytes(), maam::ConvBlockBackwardScratch(p));
    maam::RunConvBlockBackward(p);
  }
  for (int i = 4; i > 1; --i) maam::CheckFinite("ConvBlockBackward", "a gradient", call[call.Count() - i]);
  maam::CheckFinite("ConvBlockBackward", "dX", dx);
}

MAAM_EXPORT maam::Shape ConvBlockInferenceInferShape(int* ndims, int64_t** shapes, void*) {
  return maam::ResultShape(ndims, shapes);
}
MAAM_EXPORT maam::TypeId ConvBlockInferenceInferType(std::vector<maam::TypeId> types, void*) { return types[0]; }

MAAM_EXPORT std::vector<maam::Shape> ConvBlockForwardInferShape(int* ndims, int64_t** shapes, void*) {
  const maam::Shape x = maam::ShapeAt(ndims, shapes, 0), a = maam::ResultShape(ndims, shapes);
  const int64_t channels = a[1], blocks = maam::CeilDiv(channels, maam::kChannelBlock);
  const bool pools = shapes[1][0] > maam::kConstants;
  const maam::Shape pooled =
      pools ? maam::Shape{x[0], blocks, a[2], a[3], maam::kChannelBlock} : maam::Shape{1, 1, 1, 1, 1};
  return {a, {x[0], blocks, x[2], x[3], maam::kChannelBlock}, pooled, {2, channels}, {channels}, {channels}};
}
MAAM_EXPORT std::vector<maam::TypeId> ConvBlockForwardInferType(std::vector<maam::TypeId> types, void*) {
  return {types[0], types[0], types[0], types[1], types[0], types[0]};
}
MAAM_EXPORT std::vector<maam::Shape> ConvBlockBackwardInferShape(int* ndims, int64_t** shapes, void*) {
  const auto at = [&](int i) { return maam::ShapeAt(ndims, shapes, i); };
  return {at(2), at(3), at(4), at(0)};
}
MAAM_EXPORT std::vector<maam::TypeId> ConvBlockBackwardInferType(std::vector<maam::TypeId> types, void*) {
  return std::vector<maam::TypeId>(4, types[0]);
}
