#define MAAM_ISA avx512
#include "conv_block/cpu-inl.h"
