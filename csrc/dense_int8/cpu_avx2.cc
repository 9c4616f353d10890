#define MAAM_ISA avx2
#include "dense_int8/cpu-inl.h"
