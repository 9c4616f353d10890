#define MAAM_ISA avx512
#include "maam/cpu-inl.h"
