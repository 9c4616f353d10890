#define MAAM_ISA avx512
#include "operations-inl.h"
