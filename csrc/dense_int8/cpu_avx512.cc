#define MAAM_ISA avx512
#include "dense_int8/cpu-inl.h"
