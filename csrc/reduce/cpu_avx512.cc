#define MAAM_ISA avx512
#include "reduce/cpu-inl.h"
