#include "core/dispatch.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace maam {

std::vector<Variant>& Inventory() {
  static auto* const inventory = new std::vector<Variant>;
  return *inventory;
}

const Variant& ChooseVariant(const char* kernel, Isa highest) {
  const Isa active = std::min(ActiveIsa(), highest);
  const Variant* best = nullptr;
  for (const Variant& variant : Inventory()) {
    if (std::string(kernel) != variant.kernel || variant.isa > active) continue;
    if (best == nullptr || best->isa < variant.isa) best = &variant;
  }
  if (best == nullptr) throw Error(std::string("maam_ops: kernel ") + kernel + " was not compiled in");
  return *best;
}

}  // namespace maam
