#define MAAM_ISA avx512
#include "maam_deep/cpu-inl.h"
