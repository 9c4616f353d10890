#define MAAM_ISA avx512
#include "aggregate/cpu-inl.h"
