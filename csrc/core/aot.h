// MindSpore's AOT calling convention, in our words. An operator's aot.cc holds nothing but entry points of this form;
// no MindSpore header is needed, and attributes travel as small tensors so that no C++ object crosses the border.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/call_scope.h"
#include "core/export.h"
#include "core/tensor.h"

namespace maam {

// int f(int nparam, void** params, int* ndims, int64_t** shapes, const char** dtypes, void* stream, void* extra)
using AotFunction = int(int, void**, int*, int64_t**, const char**, void*, void*);

// The parameters of one call: inputs, then outputs.
class AotCall {
 public:
  AotCall(const char* op, int count, void** params, const int* ndims, int64_t** shapes, const char** dtypes,
          void* stream, bool integers = false);
  int Count() const { return static_cast<int>(tensors_.size()); }
  const Tensor& operator[](int i) const;    // throws an Error where there are fewer
  int64_t Bytes() const;                    // of all parameters
  void* Stream() const { return stream_; }  // of the device; null on CPU

  // Each throws an Error that names the operator and the argument.
  void ExpectSameShape(int i, const std::string& name, int like, const std::string& like_name) const;
  void ExpectDType(int i, const std::string& name, DType expected) const;
  void ExpectSingle(int i, const std::string& name) const;  // float32, or a half type that is widened when it is read
  void ExpectSize(int i, const std::string& name, int64_t expected) const;

 private:
  std::string op_;
  std::vector<Tensor> tensors_;
  void* stream_;
};

// Reads the parameters of a call one by one.
class AotReader {
 public:
  AotReader(const AotCall& call, const char* op) : call_(call), op_(op) {}

  const Tensor& Next(const std::string& name, DType dtype, const std::vector<int64_t>& shape);
  float* Floats(const std::string& name, const std::vector<int64_t>& shape) {
    return static_cast<float*>(Next(name, DType::kFloat32, shape).data);
  }
  double* Doubles(const std::string& name, const std::vector<int64_t>& shape) {
    return static_cast<double*>(Next(name, DType::kFloat64, shape).data);
  }

 protected:
  const AotCall& call_;
  const char* op_;

 private:
  int at_ = 0;
};

// Every entry point by name: the Python module calls kernels through the same door as MindSpore.
MAAM_PUBLIC std::map<std::string, AotFunction*>& AotFunctions();

struct RegisterAot {
  RegisterAot(const char* name, AotFunction* function) { AotFunctions()[name] = function; }
};

// MindSpore's TypeId values travel through InferType as plain integers.
using TypeId = int;
constexpr TypeId kUInt8Id = 37, kFloat64Id = 44;  // of results whose type no operand has
using Shape = std::vector<int64_t>;

inline Shape ShapeAt(const int* ndims, int64_t** shapes, int i) { return Shape(shapes[i], shapes[i] + ndims[i]); }

}  // namespace maam

#define MAAM_EXPORT extern "C" MAAM_PUBLIC

// MAAM_AOT(AggregateForward) { ... use call ... }
#define MAAM_AOT(name) MAAM_AOT_ENTRY(name, false)
// For operators that take int32 beside floats; they check themselves which parameters are.
#define MAAM_AOT_WITH_INTEGERS(name) MAAM_AOT_ENTRY(name, true)
#define MAAM_AOT_ENTRY(name, integers)                                                                             \
  static void name##Body(const maam::AotCall& call);                                                               \
  MAAM_EXPORT int name(int nparam, void** params, int* ndims, int64_t** shapes, const char** dtypes, void* stream, \
                       void*) {                                                                                    \
    const maam::CallScope scope;                                                                                   \
    name##Body(maam::AotCall(#name, nparam, params, ndims, shapes, dtypes, stream, integers));                     \
    return 0;                                                                                                      \
  }                                                                                                                \
  static const maam::RegisterAot register_##name(#name, &name);                                                    \
  static void name##Body(const maam::AotCall& call)
