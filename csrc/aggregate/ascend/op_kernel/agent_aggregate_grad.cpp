// DTYPE_BRANCHES is set by the operator build, once for each type in the operator's definition.
#include "agent_aggregate_grad_kernel.h"

extern "C" __global__ __aicore__ void agent_aggregate_grad(GM_ADDR alpha, GM_ADDR dg, GM_ADDR branches, GM_ADDR dalpha,
                                                           GM_ADDR dbranches, GM_ADDR workspace, GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(AgentAggregateTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA_WITH_STRUCT(AgentAggregateTiling, tiling_data, tiling);
  AscendC::TPipe pipe;
  aggregate::Backward<DTYPE_BRANCHES> kernel;
  kernel.Init(alpha, dg, branches, dalpha, dbranches, AscendC::GetUserWorkspace(workspace), tiling_data, &pipe);
  kernel.Process();
}
