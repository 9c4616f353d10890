// DTYPE_G is set by the operator build, once for each type in the operator's definition.
#include "agent_reduce_kernel.h"

extern "C" __global__ __aicore__ void agent_reduce(GM_ADDR g, GM_ADDR weight, GM_ADDR scale, GM_ADDR shift, GM_ADDR f,
                                                   GM_ADDR workspace, GM_ADDR tiling) {
  REGISTER_TILING_DEFAULT(AgentReduceTiling);
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);
  GET_TILING_DATA_WITH_STRUCT(AgentReduceTiling, tiling_data, tiling);
  AscendC::TPipe pipe;
  reduce::Inference<DTYPE_G> kernel;
  REGIST_MATMUL_OBJ(&pipe, GetSysWorkSpacePtr(), kernel.matmul, &tiling_data.cube);
  kernel.Init(g, weight, scale, shift, f, AscendC::GetUserWorkspace(workspace), tiling_data, &pipe);
  kernel.Process();
}
