#define MAAM_ISA avx512
#include "cross_entropy/cpu-inl.h"
