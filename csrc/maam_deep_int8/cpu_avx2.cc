#define MAAM_ISA avx2
#include "maam_deep_int8/cpu-inl.h"
