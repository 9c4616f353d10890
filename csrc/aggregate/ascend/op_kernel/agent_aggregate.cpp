// DTYPE_BRANCHES is set by the operator build, once for each type in the operator's definition.
#include "agent_aggregate_kernel.h"

extern "C" __global__ __aicore__ void agent_aggregate(GM_ADDR alpha, GM_ADDR branches, GM_ADDR g, GM_ADDR workspace,
                                                      GM_ADDR tiling) {
  (void)workspace;
  REGISTER_TILING_DEFAULT(AgentAggregateTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  GET_TILING_DATA_WITH_STRUCT(AgentAggregateTiling, tiling_data, tiling);
  AscendC::TPipe pipe;
  aggregate::Forward<DTYPE_BRANCHES> kernel;
  kernel.Init(alpha, branches, g, tiling_data, &pipe);
  kernel.Process();
}
