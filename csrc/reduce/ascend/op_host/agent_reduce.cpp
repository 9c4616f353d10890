// AgentReduce: g (B, C, H, W), weight (O, C, 1, 1) of one type, scale and shift (O,) in float32 -> f (B, O, H, W).
#include "agent_reduce_plan.h"
#include "register/op_def_registry.h"
#include "tiling/platform/platform_ascendc.h"
#include "tiling/tiling_api.h"

namespace optiling {

enum ReduceInput : size_t { kReduceG, kReduceWeight, kReduceScale, kReduceShift };

static bool ReduceShape(gert::TilingContext* context, reduce::Shape* shape) {
  const auto& g = context->GetInputShape(kReduceG)->GetStorageShape();
  const auto& weight = context->GetInputShape(kReduceWeight)->GetStorageShape();
  if (g.GetDimNum() != 4 || g.GetShapeSize() == 0 || weight.GetDimNum() < 2) return false;
  shape->images = g.GetDim(0);
  shape->channels = static_cast<uint32_t>(g.GetDim(1));
  shape->pixels = g.GetDim(2) * g.GetDim(3);
  shape->outputs = static_cast<uint32_t>(weight.GetDim(0));
  const int64_t outputs = weight.GetDim(0);
  return weight.GetShapeSize() == outputs * g.GetDim(1) &&
         context->GetInputShape(kReduceScale)->GetStorageShape().GetShapeSize() == outputs &&
         context->GetInputShape(kReduceShift)->GetStorageShape().GetShapeSize() == outputs;
}

static matmul_tiling::DataType CubeType(ge::DataType dtype) {
  if (dtype == ge::DT_FLOAT16) return matmul_tiling::DataType::DT_FLOAT16;
  return dtype == ge::DT_BF16 ? matmul_tiling::DataType::DT_BF16 : matmul_tiling::DataType::DT_FLOAT;
}

static bool CubeTiling(const platform_ascendc::PlatformAscendC& platform, ge::DataType dtype,
                       AgentReduceTiling* tiling) {
  using matmul_tiling::CubeFormat;
  using matmul_tiling::TPosition;
  matmul_tiling::MatmulApiTiling cube(platform);
  cube.SetAType(TPosition::GM, CubeFormat::ND, CubeType(dtype));
  cube.SetBType(TPosition::GM, CubeFormat::ND, CubeType(dtype));
  cube.SetCType(TPosition::GM, CubeFormat::ND, matmul_tiling::DataType::DT_FLOAT);
  cube.SetShape(tiling->outputs, tiling->block, tiling->channels);
  cube.SetOrgShape(tiling->outputs, static_cast<int32_t>(tiling->pixels), tiling->channels);
  cube.SetBias(false);
  cube.SetBufferSpace(-1, -1, -1);
  return cube.GetTiling(tiling->cube) != -1;
}

static ge::graphStatus AgentReduceTilingFunc(gert::TilingContext* context) {
  const platform_ascendc::PlatformAscendC platform(context->GetPlatformInfo());
  reduce::Shape shape{};
  if (!ReduceShape(context, &shape)) return ge::GRAPH_FAILED;
  // Each cube core works for two vector cores.
  reduce::Device device{2 * platform.GetCoreNumAic(), 0};
  platform.GetCoreMemSize(platform_ascendc::CoreMemType::UB, device.ub_bytes);
  const ge::DataType dtype = context->GetInputDesc(kReduceG)->GetDataType();
  AgentReduceTiling tiling = reduce::Plan(device, shape, dtype == ge::DT_FLOAT ? 4 : 2);
  if (tiling.rows == 0 || !CubeTiling(platform, dtype, &tiling)) return ge::GRAPH_FAILED;
  *context->GetTilingData<AgentReduceTiling>() = tiling;
  context->SetBlockDim(platform.GetCoreNumAic());
  context->GetWorkspaceSizes(1)[0] = platform.GetLibApiWorkSpaceSize() + reduce::WorkspaceBytes(tiling);
  return ge::GRAPH_SUCCESS;
}

}  // namespace optiling

namespace ge {

static graphStatus AgentReduceInferShape(gert::InferShapeContext* context) {
  *context->GetOutputShape(0) = *context->GetInputShape(optiling::kReduceG);
  context->GetOutputShape(0)->SetDim(1, context->GetInputShape(optiling::kReduceWeight)->GetDim(0));
  return GRAPH_SUCCESS;
}

static graphStatus AgentReduceInferDataType(gert::InferDataTypeContext* context) {
  context->SetOutputDataType(0, context->GetInputDataType(optiling::kReduceG));
  return GRAPH_SUCCESS;
}

}  // namespace ge

namespace ops {

class AgentReduce : public OpDef {
 public:
  explicit AgentReduce(const char* name) : OpDef(name) {
    this->Input("g")
        .ParamType(REQUIRED)
        .DataType({ge::DT_FLOAT, ge::DT_FLOAT16, ge::DT_BF16})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->Input("weight")
        .ParamType(REQUIRED)
        .DataType({ge::DT_FLOAT, ge::DT_FLOAT16, ge::DT_BF16})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->Input("scale")
        .ParamType(REQUIRED)
        .DataType({ge::DT_FLOAT, ge::DT_FLOAT, ge::DT_FLOAT})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->Input("shift")
        .ParamType(REQUIRED)
        .DataType({ge::DT_FLOAT, ge::DT_FLOAT, ge::DT_FLOAT})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->Output("f")
        .ParamType(REQUIRED)
        .DataType({ge::DT_FLOAT, ge::DT_FLOAT16, ge::DT_BF16})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->SetInferShape(ge::AgentReduceInferShape).SetInferDataType(ge::AgentReduceInferDataType);
    this->AICore().SetTiling(optiling::AgentReduceTilingFunc);
    this->AICore().AddConfig("ascend910b");
    this->AICore().AddConfig("ascend910_93");
  }
};

OP_ADD(AgentReduce);

}  // namespace ops
