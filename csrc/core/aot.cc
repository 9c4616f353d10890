#include "core/aot.h"

#include "core/error.h"

namespace maam {
namespace {

DType ParseDType(const std::string& op, int i, const std::string& name, bool integers) {
  for (DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64}) {
    if (name == Name(dtype)) return dtype;
  }
  for (DType dtype : {DType::kInt32, DType::kUInt8, DType::kInt8}) {
    if (integers && name == Name(dtype)) return dtype;
  }
  Fail(op, "parameter " + std::to_string(i), "dtype " + name,
       std::string("one of float32, float16, bfloat16, float64") + (integers ? ", int32, uint8, int8" : ""));
}

}  // namespace

AotCall::AotCall(const char* op, int count, void** params, const int* ndims, int64_t** shapes, const char** dtypes,
                 void* stream, bool integers)
    : op_(op), tensors_(count), stream_(stream) {
  for (int i = 0; i < count; ++i) {
    tensors_[i].data = params[i];
    tensors_[i].dtype = ParseDType(op_, i, dtypes[i], integers);
    if (ndims[i] > 0) tensors_[i].shape.assign(shapes[i], shapes[i] + ndims[i]);
  }
}

void AotCall::ExpectSameShape(int i, const std::string& name, int like, const std::string& like_name) const {
  if (tensors_[i].shape != tensors_[like].shape) {
    Fail(op_, name, "shape " + tensors_[i].ShapeText(),
         "the shape of " + like_name + ", " + tensors_[like].ShapeText());
  }
}

void AotCall::ExpectDType(int i, const std::string& name, DType expected) const {
  if (tensors_[i].dtype != expected) {
    Fail(op_, name, std::string("dtype ") + Name(tensors_[i].dtype), Name(expected));
  }
}

void AotCall::ExpectSingle(int i, const std::string& name) const {
  if (!IsSingle(tensors_[i].dtype)) {
    Fail(op_, name, std::string("dtype ") + Name(tensors_[i].dtype), "float32, float16 or bfloat16");
  }
}

void AotCall::ExpectSize(int i, const std::string& name, int64_t expected) const {
  if (tensors_[i].Size() != expected) {
    Fail(op_, name, "shape " + tensors_[i].ShapeText(), std::to_string(expected) + " elements");
  }
}

std::map<std::string, AotFunction*>& AotFunctions() {
  static auto* const functions = new std::map<std::string, AotFunction*>;
  return *functions;
}

}  // namespace maam
