// Wrong kernels, for the tests of the tests: each must be found by the guard pages, the poison or a sanitizer.
#include <algorithm>
#include <thread>

#include "core/aot.h"
#include "core/scratch.h"

namespace {

// y = x for n floats, right but for what the name says. Accesses are volatile where the optimiser would remove them.
#define PLANTED(name)                                                                               \
  void name##Body(const volatile float* x, volatile float* y, int64_t n);                           \
  int name(int, void** params, int*, int64_t** shapes, const char**, void*, void*) {                \
    name##Body(static_cast<const float*>(params[0]), static_cast<float*>(params[1]), shapes[0][0]); \
    return 0;                                                                                       \
  }                                                                                                 \
  const maam::RegisterAot register_##name("Planted" #name, &name);                                  \
  void name##Body(const volatile float* x, volatile float* y, int64_t n)

PLANTED(Nothing) { std::copy_n(x, n, y); }

PLANTED(ReadPastEnd) {
  std::copy_n(x, n, y);
  if (x[n] == 0.12345f) y[0] = 0;
}

PLANTED(ReadBeforeBegin) {
  std::copy_n(x, n, y);
  if (x[-1] == 0.12345f) y[0] = 0;
}

PLANTED(WritePastEnd) {
  std::copy_n(x, n, y);
  y[n] = 1;
}

PLANTED(WriteToInput) {
  std::copy_n(x, n, y);
  const_cast<volatile float*>(x)[0] = x[0] + 1;
}

PLANTED(Uninitialised) {
  const maam::Scratch scratch(n * 4);
  const volatile float* zero = reinterpret_cast<const float*>(scratch.At(0));
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] + 0 * zero[i];
}

// Two threads add to one sum without a word to each other.
PLANTED(Race) {
  volatile float sum = 0;
  const auto add = [&] {
    for (int64_t i = 0; i < n; ++i) sum = sum + x[i];
  };
  std::thread other(add);
  add();
  other.join();
  std::copy_n(x, n, y);
}

PLANTED(Leak) {
  static char* volatile lost;
  lost = new char[64];
  std::copy_n(x, n, y);
}

PLANTED(Overflow) {
  volatile int size = 0x7FFFFFFF;
  size = size + static_cast<int>(n);
  std::copy_n(x, n, y);
}

}  // namespace
