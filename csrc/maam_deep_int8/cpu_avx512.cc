#define MAAM_ISA avx512
#include "maam_deep_int8/cpu-inl.h"
