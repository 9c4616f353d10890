// Beside the entry points themselves, which throw: a call for languages that cannot catch a C++ exception.
#include <cstdio>
#include <exception>

#include "core/aot.h"

// As an entry point, named by `function`. Returns 0, or 1 with the error's text in `message`.
MAAM_EXPORT int MaamOpsCall(const char* function, int nparam, void** params, int* ndims, int64_t** shapes,
                            const char** dtypes, void* stream, char* message, int64_t size) {
  try {
    const auto found = maam::AotFunctions().find(function);
    if (found == maam::AotFunctions().end()) {
      std::snprintf(message, size, "maam_ops: no entry point %s", function);
      return 1;
    }
    return found->second(nparam, params, ndims, shapes, dtypes, stream, nullptr);
  } catch (const std::exception& error) {
    std::snprintf(message, size, "%s", error.what());
    return 1;
  }
}
