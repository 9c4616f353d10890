#define MAAM_ISA avx2
#include "maam_deep/cpu-inl.h"
