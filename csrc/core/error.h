// Readable errors. MindSpore turns an exception out of an AOT kernel into a RuntimeError with its text, while a
// non-zero return would give the user a number alone.
#pragma once

#include <stdexcept>
#include <string>

#include "core/export.h"

namespace maam {

class MAAM_PUBLIC Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// "maam_ops.<op>: <argument>: got <got>, expected <expected>"
[[noreturn]] inline void Fail(const std::string& op, const std::string& argument, const std::string& got,
                              const std::string& expected) {
  throw Error("maam_ops." + op + ": " + argument + ": got " + got + ", expected " + expected);
}

}  // namespace maam
