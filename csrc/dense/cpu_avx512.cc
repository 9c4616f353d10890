#define MAAM_ISA avx512
#include "dense/backward-inl.h"
#include "dense/cpu-inl.h"
