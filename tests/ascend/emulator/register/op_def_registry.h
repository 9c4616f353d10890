// The emulator's stand-in for CANN's operator registry: enough of ge, gert and ops to run an operator's definition,
// tiling and inference on the host. Written from the public documentation alone.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace ge {

using graphStatus = uint32_t;
constexpr graphStatus GRAPH_SUCCESS = 0;
constexpr graphStatus GRAPH_FAILED = 0xFFFFFFFF;
enum DataType { DT_FLOAT = 0, DT_FLOAT16 = 1, DT_BF16 = 27 };
enum Format { FORMAT_ND = 2 };

}  // namespace ge

namespace fe {
struct PlatFormInfos {
  uint32_t vector_cores = 0;
  uint32_t cube_cores = 0;
  uint64_t ub_bytes = 0;
};
}  // namespace fe

namespace gert {

class Shape {
 public:
  Shape() = default;
  explicit Shape(std::vector<int64_t> dims) : dims_(std::move(dims)) {}
  int64_t GetShapeSize() const {
    int64_t size = 1;
    for (const int64_t extent : dims_) size *= extent;
    return size;
  }
  size_t GetDimNum() const { return dims_.size(); }
  int64_t GetDim(size_t i) const { return dims_.at(i); }
  void SetDim(size_t i, int64_t extent) { dims_.at(i) = extent; }
  bool operator==(const Shape& other) const { return dims_ == other.dims_; }

 private:
  std::vector<int64_t> dims_;
};

class StorageShape {
 public:
  StorageShape() = default;
  explicit StorageShape(const Shape& shape) : shape_(shape) {}
  const Shape& GetStorageShape() const { return shape_; }

 private:
  Shape shape_;
};

class CompileTimeTensorDesc {
 public:
  explicit CompileTimeTensorDesc(ge::DataType dtype) : dtype_(dtype) {}
  ge::DataType GetDataType() const { return dtype_; }

 private:
  ge::DataType dtype_;
};

class AnchorInstanceInfo {
 public:
  AnchorInstanceInfo(size_t start, size_t count) : start_(start), count_(count) {}
  size_t GetInstanceNum() const { return count_; }
  size_t GetInstanceStart() const { return start_; }

 private:
  size_t start_;
  size_t count_;
};

// One call: operands in the order of the definition, a DYNAMIC one counting as several instances.
struct Operands {
  std::vector<AnchorInstanceInfo> inputs;
  std::vector<Shape> shapes;
  std::vector<StorageShape> storage_shapes;
  std::vector<CompileTimeTensorDesc> descriptions;

  void Add(const std::vector<Shape>& instances, ge::DataType dtype) {
    inputs.emplace_back(shapes.size(), instances.size());
    for (const Shape& shape : instances) {
      shapes.push_back(shape);
      storage_shapes.emplace_back(shape);
      descriptions.emplace_back(dtype);
    }
  }
  size_t Instance(size_t input, size_t relative) const {
    const AnchorInstanceInfo& info = inputs.at(input);
    if (relative >= info.GetInstanceNum()) throw std::out_of_range("instance of a dynamic input");
    return info.GetInstanceStart() + relative;
  }
};

class Context {
 public:
  explicit Context(const Operands& operands) : operands_(operands) {}
  const AnchorInstanceInfo* GetIrInputInstanceInfo(size_t input) const { return &operands_.inputs.at(input); }

 protected:
  Operands operands_;
};

class TilingContext : public Context {
 public:
  TilingContext(const Operands& operands, fe::PlatFormInfos* platform) : Context(operands), platform_(platform) {}
  const StorageShape* GetInputShape(size_t i) const { return &operands_.storage_shapes.at(i); }
  const StorageShape* GetDynamicInputShape(size_t input, size_t i) const {
    return &operands_.storage_shapes.at(operands_.Instance(input, i));
  }
  const CompileTimeTensorDesc* GetInputDesc(size_t i) const { return &operands_.descriptions.at(i); }
  const CompileTimeTensorDesc* GetDynamicInputDesc(size_t input, size_t i) const {
    return &operands_.descriptions.at(operands_.Instance(input, i));
  }
  fe::PlatFormInfos* GetPlatformInfo() const { return platform_; }
  template <class T>
  T* GetTilingData() {
    tiling.resize(sizeof(T));
    return reinterpret_cast<T*>(tiling.data());
  }
  size_t* GetWorkspaceSizes(size_t count) {
    workspaces.resize(count);
    return workspaces.data();
  }
  ge::graphStatus SetBlockDim(uint32_t cores) {
    block_dim = cores;
    return ge::GRAPH_SUCCESS;
  }
  ge::graphStatus SetScheduleMode(uint32_t mode) {
    schedule_mode = mode;
    return ge::GRAPH_SUCCESS;
  }

  // The result. Not part of CANN.
  std::vector<uint8_t> tiling;
  std::vector<size_t> workspaces;
  uint32_t block_dim = 0;
  uint32_t schedule_mode = 0;

 private:
  fe::PlatFormInfos* platform_;
};

class InferShapeContext : public Context {
 public:
  InferShapeContext(const Operands& operands, size_t outputs) : Context(operands), outputs_(outputs) {}
  const Shape* GetInputShape(size_t i) const { return &operands_.shapes.at(i); }
  const Shape* GetDynamicInputShape(size_t input, size_t i) const {
    return &operands_.shapes.at(operands_.Instance(input, i));
  }
  Shape* GetOutputShape(size_t i) { return &outputs_.at(i); }

 private:
  std::vector<Shape> outputs_;
};

class InferDataTypeContext : public Context {
 public:
  InferDataTypeContext(const Operands& operands, size_t outputs) : Context(operands), outputs_(outputs) {}
  ge::DataType GetInputDataType(size_t i) const { return operands_.descriptions.at(i).GetDataType(); }
  ge::DataType GetDynamicInputDataType(size_t input, size_t i) const {
    return operands_.descriptions.at(operands_.Instance(input, i)).GetDataType();
  }
  ge::graphStatus SetOutputDataType(size_t i, ge::DataType dtype) {
    outputs_.at(i) = dtype;
    return ge::GRAPH_SUCCESS;
  }
  ge::DataType Output(size_t i) const { return outputs_.at(i); }

 private:
  std::vector<ge::DataType> outputs_;
};

}  // namespace gert

namespace ops {

enum Option { REQUIRED, OPTIONAL, DYNAMIC };

class OpParamDef {
 public:
  explicit OpParamDef(const std::string& name) : name(name) {}
  OpParamDef& ParamType(Option value) { return option = value, *this; }
  OpParamDef& DataType(std::vector<ge::DataType> value) { return dtypes = std::move(value), *this; }
  OpParamDef& Format(std::vector<ge::Format> value) { return formats = std::move(value), *this; }

  std::string name;
  Option option = REQUIRED;
  std::vector<ge::DataType> dtypes;
  std::vector<ge::Format> formats;
};

class OpAICoreDef {
 public:
  OpAICoreDef& SetTiling(ge::graphStatus (*function)(gert::TilingContext*)) { return tiling = function, *this; }
  OpAICoreDef& AddConfig(const char* soc) { return socs.emplace_back(soc), *this; }

  std::function<ge::graphStatus(gert::TilingContext*)> tiling;
  std::vector<std::string> socs;
};

class OpDef {
 public:
  explicit OpDef(const char* name) : name(name) {}
  OpParamDef& Input(const char* parameter) { return inputs.emplace_back(parameter); }
  OpParamDef& Output(const char* parameter) { return outputs.emplace_back(parameter); }
  OpDef& SetInferShape(ge::graphStatus (*function)(gert::InferShapeContext*)) { return infer_shape = function, *this; }
  OpDef& SetInferDataType(ge::graphStatus (*function)(gert::InferDataTypeContext*)) {
    return infer_dtype = function, *this;
  }
  OpAICoreDef& AICore() { return ai_core; }

  std::string name;
  std::vector<OpParamDef> inputs;
  std::vector<OpParamDef> outputs;
  std::function<ge::graphStatus(gert::InferShapeContext*)> infer_shape;
  std::function<ge::graphStatus(gert::InferDataTypeContext*)> infer_dtype;
  OpAICoreDef ai_core;
};

inline std::map<std::string, OpDef>& Registry() {
  static std::map<std::string, OpDef> registry;
  return registry;
}

// The build of an operator package insists on this, too: one data type and one format for each combination.
inline bool Register(const OpDef& op) {
  const size_t combinations = op.inputs.at(0).dtypes.size();
  for (const auto* parameters : {&op.inputs, &op.outputs}) {
    for (const OpParamDef& parameter : *parameters) {
      if (parameter.dtypes.size() != combinations || parameter.formats.size() != combinations) {
        throw std::logic_error(op.name + ": " + parameter.name + ": number of types or formats");
      }
    }
  }
  return Registry().emplace(op.name, op).second;
}

}  // namespace ops

#define OP_ADD(type) static const bool registered_##type = ::ops::Register(type(#type))
