// Symbols that maam_ops._core takes from libmaam_ops.so; everything else stays inside the library.
#pragma once

#define MAAM_PUBLIC __attribute__((visibility("default")))
