#define MAAM_ISA avx512bf16
#include "maam/pairs-inl.h"
