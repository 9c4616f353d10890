#define MAAM_ISA avx2
#include "operations-inl.h"
