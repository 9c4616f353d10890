#define MAAM_ISA avx512
#include "adam/cpu-inl.h"
