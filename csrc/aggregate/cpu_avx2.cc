#define MAAM_ISA avx2
#include "aggregate/cpu-inl.h"
