#include "core/cuda/settings.h"

#include <cstdlib>
#include <cstring>

namespace maam::cuda {

bool Tf32Requested() {
  static const bool requested = [] {
    const char* text = std::getenv("MAAM_OPS_TF32");
    return text != nullptr && *text != '\0' && std::strcmp(text, "0") != 0;
  }();
  return requested;
}

}  // namespace maam::cuda
