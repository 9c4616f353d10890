#define MAAM_ISA avx2
#include "dense/cpu-inl.h"
