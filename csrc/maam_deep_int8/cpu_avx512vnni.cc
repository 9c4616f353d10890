#define MAAM_ISA avx512vnni
#include "maam_deep_int8/cpu-inl.h"
