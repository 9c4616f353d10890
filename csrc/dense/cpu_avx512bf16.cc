#define MAAM_ISA avx512bf16
#include "dense/cpu-inl.h"
