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

const Tensor& AotCall::operator[](int i) const {
  if (i < 0 || i >= Count()) {
    Fail(op_, "parameters", std::to_string(Count()), "at least " + std::to_string(i + 1));
  }
  return tensors_[i];
}

int64_t AotCall::Bytes() const {
  int64_t bytes = 0;
  for (const Tensor& tensor : tensors_) bytes += tensor.Bytes();
  return bytes;
}

void AotCall::ExpectSameShape(int i, const std::string& name, int like, const std::string& like_name) const {
  if ((*this)[i].shape != (*this)[like].shape) {
    Fail(op_, name, "shape " + (*this)[i].ShapeText(), "the shape of " + like_name + ", " + (*this)[like].ShapeText());
  }
}

void AotCall::ExpectDType(int i, const std::string& name, DType expected) const {
  if ((*this)[i].dtype != expected) {
    Fail(op_, name, std::string("dtype ") + Name((*this)[i].dtype), Name(expected));
  }
}

void AotCall::ExpectSingle(int i, const std::string& name) const {
  if (!IsSingle((*this)[i].dtype)) {
    Fail(op_, name, std::string("dtype ") + Name((*this)[i].dtype), "float32, float16 or bfloat16");
  }
}

void AotCall::ExpectSize(int i, const std::string& name, int64_t expected) const {
  if ((*this)[i].Size() != expected) {
    Fail(op_, name, "shape " + (*this)[i].ShapeText(), std::to_string(expected) + " elements");
  }
}

const Tensor& AotReader::Next(const std::string& name, DType dtype, const std::vector<int64_t>& shape) {
  call_.ExpectDType(at_, name, dtype);
  const Tensor& tensor = call_[at_++];
  if (tensor.shape != shape) {
    Fail(op_, name, "shape " + tensor.ShapeText(), Tensor{nullptr, dtype, shape}.ShapeText());
  }
  return tensor;
}

std::map<std::string, AotFunction*>& AotFunctions() {
  static auto* const functions = new std::map<std::string, AotFunction*>;
  return *functions;
}

}  // namespace maam
