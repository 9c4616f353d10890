#define MAAM_ISA avx2
#include "maam_int8/cpu-inl.h"
