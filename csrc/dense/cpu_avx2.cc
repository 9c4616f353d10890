#define MAAM_ISA avx2
#include "dense/backward-inl.h"
#include "dense/cpu-inl.h"
