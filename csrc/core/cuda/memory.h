// How kernels reach memory: every access of every kernel goes through here. The emulator of the tests has a header of
// this name that checks each one for bounds, alignment, races and uninitialised data.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/cuda/number.h"

namespace maam::cuda {

// What one thread moves at a time: 16 bytes.
template <class T>
struct Pack {
  static constexpr int kLanes = 16 / static_cast<int>(sizeof(T));
  T lane[kLanes];
};

template <class T>
MAAM_DEVICE T Load(const T* p, int64_t i) {
  return p[i];
}

template <class T>
MAAM_DEVICE void Store(T* p, int64_t i, T x) {
  p[i] = x;
}

// p + i is aligned to 16 bytes. By way of uint4, or halves would be moved 8 bytes at a time.
template <class T>
MAAM_DEVICE Pack<T> LoadPack(const T* p, int64_t i) {
  const uint4 raw = *reinterpret_cast<const uint4*>(p + i);
  Pack<T> x;
  memcpy(&x, &raw, sizeof raw);
  return x;
}

template <class T>
MAAM_DEVICE void StorePack(T* p, int64_t i, const Pack<T>& x) {
  uint4 raw;
  memcpy(&raw, &x, sizeof raw);
  *reinterpret_cast<uint4*>(p + i) = raw;
}

// Elements of a block's shared memory.
template <class T>
class Shared {
 public:
  MAAM_DEVICE explicit Shared(unsigned char* base) : p_(reinterpret_cast<T*>(base)) {}
  MAAM_DEVICE T Get(int i) const { return p_[i]; }
  MAAM_DEVICE void Set(int i, T x) const { p_[i] = x; }
  MAAM_DEVICE Pack<T> GetPack(int i) const { return LoadPack(p_, i); }
  MAAM_DEVICE void SetPack(int i, const Pack<T>& x) const { StorePack(p_, i, x); }
  MAAM_DEVICE Shared From(int i) const { return Shared(reinterpret_cast<unsigned char*>(p_ + i)); }
  MAAM_DEVICE T* Raw() const { return p_; }

 private:
  T* p_;
};

}  // namespace maam::cuda

// The shared memory of a kernel, once in its body; its parts are Shared<T>(name + offset).
#define MAAM_SHARED_MEMORY(name, bytes) __shared__ __align__(128) unsigned char name[bytes]
