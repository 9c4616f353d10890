#define MAAM_ISA avx512vnni
#include "maam_int8/cpu-inl.h"
