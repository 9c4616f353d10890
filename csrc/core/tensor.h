// A view of a dense row-major array, as MindSpore hands it over: pointers are aligned to 16 bytes at best.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace maam {

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;

  int64_t Size() const {
    int64_t size = 1;
    for (int64_t extent : shape) size *= extent;
    return size;
  }
  int64_t Bytes() const { return Size() * SizeOf(dtype); }
  std::string ShapeText() const {  // "64x128x16x16", "scalar"
    std::string text;
    for (int64_t extent : shape) text += (text.empty() ? "" : "x") + std::to_string(extent);
    return shape.empty() ? "scalar" : text;
  }
};

}  // namespace maam
