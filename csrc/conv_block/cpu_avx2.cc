#define MAAM_ISA avx2
#include "conv_block/cpu-inl.h"
