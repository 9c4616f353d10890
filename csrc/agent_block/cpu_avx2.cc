#define MAAM_ISA avx2
#include "agent_block/cpu-inl.h"
