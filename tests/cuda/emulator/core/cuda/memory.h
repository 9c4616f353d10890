// In place of the product's header of this name: the same accesses, each one checked.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/cuda/number.h"

namespace maam::cuda {

template <class T>
struct Pack {
  static constexpr int kLanes = 16 / static_cast<int>(sizeof(T));
  T lane[kLanes];
};

template <class T>
T Load(const T* p, int64_t i) {
  emulator::CheckGlobal(p + i, sizeof(T), sizeof(T), false);
  return p[i];
}

template <class T>
void Store(T* p, int64_t i, T x) {
  emulator::CheckGlobal(p + i, sizeof(T), sizeof(T), true);
  p[i] = x;
}

template <class T>
Pack<T> LoadPack(const T* p, int64_t i) {
  emulator::CheckGlobal(p + i, 16, 16, false);
  Pack<T> x;
  std::memcpy(&x, p + i, sizeof x);
  return x;
}

template <class T>
void StorePack(T* p, int64_t i, const Pack<T>& x) {
  emulator::CheckGlobal(p + i, 16, 16, true);
  std::memcpy(p + i, &x, sizeof x);
}

template <class T>
class Shared {
 public:
  explicit Shared(unsigned char* base) : p_(reinterpret_cast<T*>(base)) {}
  T Get(int i) const {
    emulator::CheckShared(p_ + i, sizeof(T), sizeof(T), false);
    return p_[i];
  }
  void Set(int i, T x) const {
    emulator::CheckShared(p_ + i, sizeof(T), sizeof(T), true);
    p_[i] = x;
  }
  Pack<T> GetPack(int i) const {
    emulator::CheckShared(p_ + i, 16, 16, false);
    Pack<T> x;
    std::memcpy(&x, p_ + i, sizeof x);
    return x;
  }
  void SetPack(int i, const Pack<T>& x) const {
    emulator::CheckShared(p_ + i, 16, 16, true);
    std::memcpy(p_ + i, &x, sizeof x);
  }
  Shared From(int i) const { return Shared(reinterpret_cast<unsigned char*>(p_ + i)); }

 private:
  T* p_;
};

}  // namespace maam::cuda

#define MAAM_SHARED_MEMORY(name, bytes) unsigned char* const name = emulator::SharedMemory(bytes)
