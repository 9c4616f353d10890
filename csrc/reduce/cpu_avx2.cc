#define MAAM_ISA avx2
#include "reduce/cpu-inl.h"
