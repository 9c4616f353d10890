#define MAAM_ISA avx512
#include "maam_int8/cpu-inl.h"
