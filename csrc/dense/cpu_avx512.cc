#define MAAM_ISA avx512
#include "dense/cpu-inl.h"
