#define MAAM_ISA avx2
#include "adam/cpu-inl.h"
