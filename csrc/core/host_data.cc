#include "core/trace.h"

namespace maam {

const void* HostData(const Tensor& tensor, std::vector<char>*) { return tensor.data; }

}  // namespace maam
