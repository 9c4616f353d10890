// What the drivers of the forward and of the backward share: operands as the kernels take them.
#pragma once

#include <initializer_list>
#include <string>

#include "core/ceil_div.h"
#include "core/cuda/launch.h"
#include "core/cuda/settings.h"
#include "core/error.h"
#include "core/scratch.h"
#include "reduce/cuda_forward.h"
#include "reduce/reduce.h"

namespace maam::cuda {

// Calls f with the way to compute products of this type.
template <class F>
void WithProduct(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat32:
      return Tf32Requested() ? f(OnTensorCores<float, Tf32>()) : f(OnCores<float>());
    case DType::kFloat16:
      return f(OnTensorCores<Half, Half>());
    case DType::kBFloat16:
      return f(OnTensorCores<BFloat16, BFloat16>());
    default:
      return f(OnCores<double>());
  }
}

template <class T>
Images ImagesOf(const ReduceOperands& p, std::initializer_list<const void*> arrays) {
  uintptr_t bits = 0;
  for (const void* array : arrays) bits |= reinterpret_cast<uintptr_t>(array);
  for (int k = 0; k < p.branches; ++k) bits |= reinterpret_cast<uintptr_t>(p.a[k]);
  if (bits % sizeof(T) != 0) {
    Fail("reduce", "pointer", "one not aligned to its elements", std::to_string(sizeof(T)) + " bytes");
  }
  return {p.pixels, p.Pixels(), bits % 16 == 0 && p.pixels % Pack<T>::kLanes == 0};
}

template <class T>
Branches<T> BranchesOf(const ReduceOperands& p, const Images& images) {
  Branches<T> branches = {};
  branches.alpha = static_cast<const Wide<T>*>(p.alpha);
  branches.count = p.branches;
  branches.channels = p.inputs;
  branches.images = images;
  for (int k = 0; k < p.branches; ++k) branches.a[k] = static_cast<const T*>(p.a[k]);
  return branches;
}

template <class T>
WeightOperand<T> WeightOf(const ReduceOperands& p) {
  return {p.weight, p.weight_dtype != p.dtype, p.outputs, p.inputs};
}

template <class T>
ForwardArguments<T> ForwardOf(const ReduceOperands& p, const Images& images, Finish finish) {
  using W = Wide<T>;
  ForwardArguments<T> arguments = {};
  arguments.finish = finish;
  arguments.branches = BranchesOf<T>(p, images);
  arguments.weight = WeightOf<T>(p);
  arguments.constants = p.constants;
  arguments.wide_constants = p.constants_dtype == DType::kFloat64;
  arguments.gamma = static_cast<const W*>(p.gamma);
  arguments.beta = static_cast<const W*>(p.beta);
  return arguments;
}

template <class P>
int64_t TilesOf(const ReduceOperands& p) {
  return CeilDiv(p.Pixels(), P::kColumns);
}

// The forward's product; defined in cuda_forward.cu, so that its kernels are compiled once.
template <class P>
void RunForward(const char* op, const ReduceOperands& p, const ForwardArguments<typename P::Data>& arguments);

}  // namespace maam::cuda
