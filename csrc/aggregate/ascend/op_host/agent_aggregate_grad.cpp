// AgentAggregateGrad: alpha, dG, N branches -> d alpha (as alpha), dA_1..dA_N (as the branches).
#include "agent_aggregate_host.h"

namespace optiling {

constexpr size_t kGradDgInput = 1;
constexpr size_t kGradBranchesInput = 2;

static ge::graphStatus AgentAggregateGradTilingFunc(gert::TilingContext* context) {
  using namespace aggregate;
  const uint32_t branches = CountBranches(context, kGradBranchesInput);
  if (branches == 0 || !BranchesAgree(context, kGradBranchesInput, branches)) return ge::GRAPH_FAILED;
  const auto& shape = context->GetDynamicInputShape(kGradBranchesInput, 0)->GetStorageShape();
  const ge::DataType dtype = context->GetDynamicInputDesc(kGradBranchesInput, 0)->GetDataType();
  if (!(context->GetInputShape(kGradDgInput)->GetStorageShape() == shape)) return ge::GRAPH_FAILED;
  if (context->GetInputDesc(kGradDgInput)->GetDataType() != dtype) return ge::GRAPH_FAILED;
  const AgentAggregateTiling tiling =
      PlanBackward(DeviceOf(context), shape.GetShapeSize(), branches, ElementBytes(dtype));
  context->SetScheduleMode(1);  // all cores start together, or SyncAll would wait for cores that never run
  return Finish(context, tiling, BackwardWorkspaceBytes(tiling));
}

}  // namespace optiling

namespace ge {

static graphStatus AgentAggregateGradInferShape(gert::InferShapeContext* context) {
  const size_t branches = context->GetIrInputInstanceInfo(optiling::kGradBranchesInput)->GetInstanceNum();
  *context->GetOutputShape(0) = *context->GetInputShape(0);
  for (size_t k = 0; k < branches; ++k) {
    *context->GetOutputShape(1 + k) = *context->GetDynamicInputShape(optiling::kGradBranchesInput, k);
  }
  return GRAPH_SUCCESS;
}

static graphStatus AgentAggregateGradInferDataType(gert::InferDataTypeContext* context) {
  const size_t branches = context->GetIrInputInstanceInfo(optiling::kGradBranchesInput)->GetInstanceNum();
  context->SetOutputDataType(0, context->GetInputDataType(0));
  for (size_t k = 0; k < branches; ++k) {
    context->SetOutputDataType(1 + k, context->GetDynamicInputDataType(optiling::kGradBranchesInput, k));
  }
  return GRAPH_SUCCESS;
}

}  // namespace ge

namespace ops {

class AgentAggregateGrad : public OpDef {
 public:
  explicit AgentAggregateGrad(const char* name) : OpDef(name) {
    this->Input("alpha")
        .ParamType(REQUIRED)
        .DataType({ge::DT_FLOAT, ge::DT_FLOAT, ge::DT_FLOAT})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->Input("dg")
        .ParamType(REQUIRED)
        .DataType({ge::DT_FLOAT, ge::DT_FLOAT16, ge::DT_BF16})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->Input("branches")
        .ParamType(DYNAMIC)
        .DataType({ge::DT_FLOAT, ge::DT_FLOAT16, ge::DT_BF16})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->Output("dalpha")
        .ParamType(REQUIRED)
        .DataType({ge::DT_FLOAT, ge::DT_FLOAT, ge::DT_FLOAT})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->Output("dbranches")
        .ParamType(DYNAMIC)
        .DataType({ge::DT_FLOAT, ge::DT_FLOAT16, ge::DT_BF16})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->SetInferShape(ge::AgentAggregateGradInferShape).SetInferDataType(ge::AgentAggregateGradInferDataType);
    this->AICore().SetTiling(optiling::AgentAggregateGradTilingFunc);
    this->AICore().AddConfig("ascend910b");
    this->AICore().AddConfig("ascend910_93");
  }
};

OP_ADD(AgentAggregateGrad);

}  // namespace ops
