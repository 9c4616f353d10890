#define MAAM_ISA avx2
#include "cross_entropy/cpu-inl.h"
