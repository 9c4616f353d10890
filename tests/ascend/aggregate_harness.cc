// The aggregate's operators, host and kernel, behind one C function. Built by the tests with the operator's folder
// (csrc/aggregate/ascend, or a copy with faults planted in it) on the include path.
#include "emulator/core.h"
#include "kernel_operator.h"
#include "launch.h"

#define DTYPE_BRANCHES float
#define agent_aggregate forward_float
#define agent_aggregate_grad backward_float
#include "op_kernel/agent_aggregate.cpp"
#include "op_kernel/agent_aggregate_grad.cpp"
#undef DTYPE_BRANCHES
#undef agent_aggregate
#undef agent_aggregate_grad

#define DTYPE_BRANCHES half
#define agent_aggregate forward_half
#define agent_aggregate_grad backward_half
#include "op_kernel/agent_aggregate.cpp"
#include "op_kernel/agent_aggregate_grad.cpp"
#undef DTYPE_BRANCHES
#undef agent_aggregate
#undef agent_aggregate_grad

#define DTYPE_BRANCHES bfloat16_t
#define agent_aggregate forward_bfloat16
#define agent_aggregate_grad backward_bfloat16
#include "op_kernel/agent_aggregate.cpp"
#include "op_kernel/agent_aggregate_grad.cpp"
#undef DTYPE_BRANCHES
#undef agent_aggregate
#undef agent_aggregate_grad

#include "op_host/agent_aggregate.cpp"
#include "op_host/agent_aggregate_grad.cpp"

namespace {

struct Call {
  int32_t backward;
  int32_t dtype;  // ge::DataType
  int32_t branches;
  int32_t alpha_size;
  int32_t cores;
  int32_t ub_bytes;
  int64_t rows;
  int64_t columns;
  void* alpha;
  void* dg;
  void* a[8];
  void* g;
  void* dalpha;
  void* da[8];
};

using ForwardKernel = void (*)(GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR);
using BackwardKernel = void (*)(GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR);

template <class Kernel>
Kernel Pick(int dtype, Kernel f32, Kernel f16, Kernel bf16) {
  return dtype == ge::DT_FLOAT ? f32 : dtype == ge::DT_FLOAT16 ? f16 : bf16;
}

GM_ADDR Address(void* data) { return static_cast<GM_ADDR>(data); }

void RunForward(const Call& call, const gert::TilingContext& tiling, emulator::Device& device, void* workspace) {
  auto list = emulator::TensorList(call.a, call.branches);
  auto data = tiling.tiling;
  const auto kernel = Pick<ForwardKernel>(call.dtype, forward_float, forward_half, forward_bfloat16);
  device.Launch(tiling.block_dim, [&] {
    kernel(Address(call.alpha), Address(list.data()), Address(call.g), Address(workspace), data.data());
  });
}

void RunBackward(const Call& call, const gert::TilingContext& tiling, emulator::Device& device, void* workspace) {
  if (tiling.schedule_mode != 1) throw emulator::Fault("SyncAll needs schedule mode 1");
  auto in = emulator::TensorList(call.a, call.branches);
  auto out = emulator::TensorList(call.da, call.branches);
  auto data = tiling.tiling;
  const auto kernel = Pick<BackwardKernel>(call.dtype, backward_float, backward_half, backward_bfloat16);
  device.Launch(tiling.block_dim, [&] {
    kernel(Address(call.alpha), Address(call.dg), Address(in.data()), Address(call.dalpha), Address(out.data()),
           Address(workspace), data.data());
  });
}

gert::Operands OperandsOf(const Call& call) {
  const auto dtype = static_cast<ge::DataType>(call.dtype);
  const gert::Shape shape({call.rows, call.columns});
  gert::Operands operands;
  operands.Add({gert::Shape({call.alpha_size})}, ge::DT_FLOAT);
  if (call.backward) operands.Add({shape}, dtype);
  operands.Add(std::vector<gert::Shape>(call.branches, shape), dtype);
  return operands;
}

void MapTensors(const Call& call, emulator::Device& device) {
  const uint64_t bytes = call.rows * call.columns * (call.dtype == ge::DT_FLOAT ? 4 : 2);
  device.Map(call.alpha, call.alpha_size * sizeof(float), false, "alpha");
  for (int k = 0; k < call.branches; ++k) device.Map(call.a[k], bytes, false, "A_" + std::to_string(k));
  if (!call.backward) return device.Map(call.g, bytes, true, "G");
  device.Map(call.dg, bytes, false, "dG");
  device.Map(call.dalpha, call.alpha_size * sizeof(float), true, "d alpha");
  for (int k = 0; k < call.branches; ++k) device.Map(call.da[k], bytes, true, "dA_" + std::to_string(k));
}

}  // namespace

extern "C" int run_aggregate(const Call* call, emulator::Report* report) {
  emulator::Device device(call->ub_bytes);
  return emulator::Run(device, report, [&] {
    fe::PlatFormInfos platform{static_cast<uint32_t>(call->cores), 0, static_cast<uint64_t>(call->ub_bytes)};
    const char* op = call->backward ? "AgentAggregateGrad" : "AgentAggregate";
    const gert::TilingContext tiling = emulator::Tile(op, OperandsOf(*call), &platform);
    const std::unique_ptr<uint8_t[]> workspace(new uint8_t[tiling.workspaces.at(0)]);
    device.Map(workspace.get() + emulator::kSystemWorkspace, tiling.workspaces[0] - emulator::kSystemWorkspace, true,
               "workspace");
    MapTensors(*call, device);
    (call->backward ? RunBackward : RunForward)(*call, tiling, device, workspace.get());
  });
}

// The split and the tile alone: what large tensors would get, without running them.
extern "C" void plan_aggregate(int backward, int element_bytes, uint64_t size, int branches, int cores, int ub_bytes,
                               AgentAggregateTiling* tiling) {
  const aggregate::Device device{static_cast<uint32_t>(cores), static_cast<uint64_t>(ub_bytes)};
  *tiling = (backward ? aggregate::PlanBackward : aggregate::PlanForward)(device, size, branches, element_bytes);
}

// Shapes and types that inference gives, as counts of what differs from the expected: 0 is right.
extern "C" int infer_aggregate(int backward, int branches) {
  Call call{};
  call.backward = backward;
  call.dtype = ge::DT_BF16;
  call.branches = call.alpha_size = branches;
  call.rows = 3;
  call.columns = 5;
  const gert::Operands operands = OperandsOf(call);
  const size_t outputs = backward ? 1 + branches : 1;
  gert::InferShapeContext shapes(operands, outputs);
  gert::InferDataTypeContext dtypes(operands, outputs);
  const ops::OpDef& op = ops::Registry().at(backward ? "AgentAggregateGrad" : "AgentAggregate");
  int wrong = op.infer_shape(&shapes) != ge::GRAPH_SUCCESS || op.infer_dtype(&dtypes) != ge::GRAPH_SUCCESS;
  for (size_t i = 0; i < outputs; ++i) {
    const bool alpha = backward && i == 0;
    wrong += !(*shapes.GetOutputShape(i) == (alpha ? gert::Shape({branches}) : gert::Shape({3, 5})));
    wrong += dtypes.Output(i) != (alpha ? ge::DT_FLOAT : ge::DT_BF16);
  }
  return wrong;
}
