// AgentAggregate: alpha (N elements, float32), N branches of one shape and type -> G.
#include "agent_aggregate_host.h"

namespace optiling {

constexpr size_t kBranchesInput = 1;

static ge::graphStatus AgentAggregateTilingFunc(gert::TilingContext* context) {
  using namespace aggregate;
  const uint32_t branches = CountBranches(context, kBranchesInput);
  if (branches == 0 || !BranchesAgree(context, kBranchesInput, branches)) return ge::GRAPH_FAILED;
  const uint64_t size = context->GetDynamicInputShape(kBranchesInput, 0)->GetStorageShape().GetShapeSize();
  const uint64_t element_bytes = ElementBytes(context->GetDynamicInputDesc(kBranchesInput, 0)->GetDataType());
  return Finish(context, PlanForward(DeviceOf(context), size, branches, element_bytes), 0);
}

}  // namespace optiling

namespace ge {

static graphStatus AgentAggregateInferShape(gert::InferShapeContext* context) {
  *context->GetOutputShape(0) = *context->GetDynamicInputShape(optiling::kBranchesInput, 0);
  return GRAPH_SUCCESS;
}

static graphStatus AgentAggregateInferDataType(gert::InferDataTypeContext* context) {
  context->SetOutputDataType(0, context->GetDynamicInputDataType(optiling::kBranchesInput, 0));
  return GRAPH_SUCCESS;
}

}  // namespace ge

namespace ops {

class AgentAggregate : public OpDef {
 public:
  explicit AgentAggregate(const char* name) : OpDef(name) {
    this->Input("alpha")
        .ParamType(REQUIRED)
        .DataType({ge::DT_FLOAT, ge::DT_FLOAT, ge::DT_FLOAT})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->Input("branches")
        .ParamType(DYNAMIC)
        .DataType({ge::DT_FLOAT, ge::DT_FLOAT16, ge::DT_BF16})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->Output("g")
        .ParamType(REQUIRED)
        .DataType({ge::DT_FLOAT, ge::DT_FLOAT16, ge::DT_BF16})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->SetInferShape(ge::AgentAggregateInferShape).SetInferDataType(ge::AgentAggregateInferDataType);
    this->AICore().SetTiling(optiling::AgentAggregateTilingFunc);
    this->AICore().AddConfig("ascend910b");
    this->AICore().AddConfig("ascend910_93");
  }
};

OP_ADD(AgentAggregate);

}  // namespace ops
