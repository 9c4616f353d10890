#define MAAM_ISA avx512
#include "agent_block/cpu-inl.h"
