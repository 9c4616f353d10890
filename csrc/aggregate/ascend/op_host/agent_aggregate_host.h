// What the two operators' host parts share: reading the operands of a call and the device.
#pragma once

#include "agent_aggregate_plan.h"
#include "register/op_def_registry.h"
#include "tiling/platform/platform_ascendc.h"

namespace aggregate {

// Number of branches, or 0 if alpha has another number of elements or there are too few or too many.
template <class Context>
uint32_t CountBranches(Context* context, size_t branches_input) {
  const auto* list = context->GetIrInputInstanceInfo(branches_input);
  const auto* alpha = context->GetInputShape(0);
  if (list == nullptr || alpha == nullptr) return 0;
  const uint32_t count = static_cast<uint32_t>(list->GetInstanceNum());
  const bool possible = count >= 2 && count <= kAggregateMaxBranches;
  return possible && alpha->GetStorageShape().GetShapeSize() == static_cast<int64_t>(count) ? count : 0;
}

// Whether all branches have the shape and the type of the first one.
inline bool BranchesAgree(gert::TilingContext* context, size_t branches_input, uint32_t branches) {
  const auto& shape = context->GetDynamicInputShape(branches_input, 0)->GetStorageShape();
  const ge::DataType dtype = context->GetDynamicInputDesc(branches_input, 0)->GetDataType();
  for (uint32_t k = 1; k < branches; ++k) {
    if (!(context->GetDynamicInputShape(branches_input, k)->GetStorageShape() == shape)) return false;
    if (context->GetDynamicInputDesc(branches_input, k)->GetDataType() != dtype) return false;
  }
  return true;
}

inline uint64_t ElementBytes(ge::DataType dtype) { return dtype == ge::DT_FLOAT ? 4 : 2; }

inline Device DeviceOf(gert::TilingContext* context) {
  const platform_ascendc::PlatformAscendC platform(context->GetPlatformInfo());
  Device device{platform.GetCoreNumAiv(), 0};
  platform.GetCoreMemSize(platform_ascendc::CoreMemType::UB, device.ub_bytes);
  return device;
}

inline ge::graphStatus Finish(gert::TilingContext* context, const AgentAggregateTiling& tiling,
                              uint64_t workspace_bytes) {
  const platform_ascendc::PlatformAscendC platform(context->GetPlatformInfo());
  *context->GetTilingData<AgentAggregateTiling>() = tiling;
  context->SetBlockDim(tiling.cores);
  context->GetWorkspaceSizes(1)[0] = platform.GetLibApiWorkSpaceSize() + workspace_bytes;
  return ge::GRAPH_SUCCESS;
}

}  // namespace aggregate
