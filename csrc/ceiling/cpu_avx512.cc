#define MAAM_ISA avx512
#include "ceiling/cpu-inl.h"
