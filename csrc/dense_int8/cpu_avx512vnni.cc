#define MAAM_ISA avx512vnni
#include "dense_int8/cpu-inl.h"
