// The kernels, written once and compiled for each instruction set (cpu.cc, cpu_avx2.cc, cpu_avx512.cc).
#include "agent_block/backward-inl.h"
#include "agent_block/forward-inl.h"
#include "agent_block/input_gradient-inl.h"
