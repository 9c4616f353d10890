// The reduce's operator, host and kernel, behind one C function; see aggregate_harness.cc.
#include "kernel_operator.h"
#include "launch.h"

#define DTYPE_G float
#define agent_reduce reduce_float
#include "op_kernel/agent_reduce.cpp"
#undef DTYPE_G
#undef agent_reduce

#define DTYPE_G half
#define agent_reduce reduce_half
#include "op_kernel/agent_reduce.cpp"
#undef DTYPE_G
#undef agent_reduce

#define DTYPE_G bfloat16_t
#define agent_reduce reduce_bfloat16
#include "op_kernel/agent_reduce.cpp"
#undef DTYPE_G
#undef agent_reduce

#include "op_host/agent_reduce.cpp"

namespace {

struct Call {
  int32_t dtype;  // ge::DataType
  int32_t cube_cores;
  int32_t ub_bytes;
  int32_t scale_size;
  int64_t images;
  int64_t channels;
  int64_t height;
  int64_t width;
  int64_t outputs;
  void* g;
  void* weight;
  void* scale;
  void* shift;
  void* f;
};

using Kernel = void (*)(GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR, GM_ADDR);

GM_ADDR Address(void* data) { return static_cast<GM_ADDR>(data); }

gert::Operands OperandsOf(const Call& call) {
  const auto dtype = static_cast<ge::DataType>(call.dtype);
  gert::Operands operands;
  operands.Add({gert::Shape({call.images, call.channels, call.height, call.width})}, dtype);
  operands.Add({gert::Shape({call.outputs, call.channels, 1, 1})}, dtype);
  operands.Add({gert::Shape({call.scale_size})}, ge::DT_FLOAT);
  operands.Add({gert::Shape({call.outputs})}, ge::DT_FLOAT);
  return operands;
}

void MapTensors(const Call& call, emulator::Device& device) {
  const uint64_t element = call.dtype == ge::DT_FLOAT ? 4 : 2;
  const uint64_t pixels = call.images * call.height * call.width;
  device.Map(call.g, pixels * call.channels * element, false, "G");
  device.Map(call.weight, call.outputs * call.channels * element, false, "W");
  device.Map(call.scale, call.outputs * sizeof(float), false, "scale");
  device.Map(call.shift, call.outputs * sizeof(float), false, "shift");
  device.Map(call.f, pixels * call.outputs * element, true, "F");
}

}  // namespace

extern "C" int run_reduce(const Call* call, emulator::Report* report) {
  emulator::Device device(call->ub_bytes);
  return emulator::Run(device, report, [&] {
    const auto cores = static_cast<uint32_t>(call->cube_cores);
    fe::PlatFormInfos platform{2 * cores, cores, static_cast<uint64_t>(call->ub_bytes)};
    const gert::TilingContext tiling = emulator::Tile("AgentReduce", OperandsOf(*call), &platform);
    const std::unique_ptr<uint8_t[]> workspace(new uint8_t[tiling.workspaces.at(0)]);
    device.Map(workspace.get() + emulator::kSystemWorkspace, tiling.workspaces[0] - emulator::kSystemWorkspace, true,
               "workspace");
    MapTensors(*call, device);
    auto data = tiling.tiling;
    const Kernel kernel = call->dtype == ge::DT_FLOAT     ? reduce_float
                          : call->dtype == ge::DT_FLOAT16 ? reduce_half
                                                          : reduce_bfloat16;
    device.Launch(2 * tiling.block_dim, [&] {  // two vector cores beside each cube core
      kernel(Address(call->g), Address(call->weight), Address(call->scale), Address(call->shift), Address(call->f),
             Address(workspace.get()), data.data());
    });
  });
}

// Units of work of the busiest worker and of all, and the pixels of a block.
extern "C" void plan_reduce(int images, int outputs, int pixels, int workers, int64_t* busiest, int64_t* units,
                            int64_t* block) {
  const reduce::Device device{static_cast<uint32_t>(workers), 192 * 1024};
  const reduce::Shape shape{static_cast<uint64_t>(images), 64, static_cast<uint32_t>(outputs),
                            static_cast<uint64_t>(pixels)};
  const AgentReduceTiling tiling = reduce::Plan(device, shape, 4);
  *units = tiling.images * tiling.blocks;
  *busiest = (*units + workers - 1) / workers;
  *block = tiling.block;
}
