#define MAAM_ISA avx2
#include "ceiling/cpu-inl.h"
