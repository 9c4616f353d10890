#define MAAM_ISA avx2
#include "maam/cpu-inl.h"
