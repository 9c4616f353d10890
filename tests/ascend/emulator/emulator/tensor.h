// Tensors in global and local memory, and the copies between them.
#pragma once

#include "core/dtype.h"
#include "emulator/device.h"

using half = maam::Half;
using bfloat16_t = maam::BFloat16;

namespace emulator {

// A buffer handed out by a queue or a TBuf. The generation changes when it is freed: older handles are dangling.
struct Buffer {
  uint32_t offset = 0;
  uint32_t bytes = 0;
  uint32_t generation = 0;
};

template <class T>
void Store(T& out, float value) {
  maam::Assign(out, value);
}

}  // namespace emulator

namespace AscendC {

template <class T>
class LocalTensor {
 public:
  LocalTensor() = default;
  LocalTensor(const emulator::Buffer* buffer, uint32_t offset, uint32_t bytes)
      : buffer_(buffer), generation_(buffer->generation), offset_(offset), bytes_(bytes) {}

  LocalTensor operator[](uint32_t element) const {
    LocalTensor view = *this;
    view.offset_ += element * sizeof(T);
    view.bytes_ = element * sizeof(T) <= bytes_ ? bytes_ - element * sizeof(T) : 0;
    return view;
  }
  template <class U>
  LocalTensor<U> ReinterpretCast() const {
    return LocalTensor<U>(buffer_, offset_, bytes_);
  }
  uint32_t GetSize() const { return bytes_ / sizeof(T); }

  T GetValue(uint32_t i) const {
    emulator::ThisCore().Issue(PIPE_S);
    return *operator[](i).Read(1, sizeof(T));
  }
  void SetValue(uint32_t i, T value) const {
    emulator::ThisCore().Issue(PIPE_S);
    *operator[](i).Write(1, sizeof(T)) = value;
  }

  // What the calls below use: the elements, after all checks. Not part of Ascend C.
  const T* Read(uint32_t count, uint32_t alignment = emulator::kBlock) const {
    emulator::ThisCore().Read(Check(count, alignment), count * sizeof(T));
    return Data();
  }
  T* Write(uint32_t count, uint32_t alignment = emulator::kBlock) const {
    emulator::ThisCore().Write(Check(count, alignment), count * sizeof(T));
    return Data();
  }
  const emulator::Buffer* GetBuffer() const { return buffer_; }
  uint32_t Offset() const { return offset_; }

 private:
  uint32_t Check(uint32_t count, uint32_t alignment) const {
    if (buffer_ == nullptr) throw emulator::Fault("local tensor that was never allocated");
    if (buffer_->generation != generation_) throw emulator::Fault("local tensor used after FreeTensor");
    if (offset_ % alignment != 0) {
      throw emulator::Fault("local address " + std::to_string(offset_) + " is not aligned to " +
                            std::to_string(alignment) + " bytes");
    }
    if (static_cast<uint64_t>(count) * sizeof(T) > bytes_) {
      throw emulator::Fault(std::to_string(count * sizeof(T)) + " bytes accessed in a local tensor of " +
                            std::to_string(bytes_));
    }
    return offset_;
  }
  T* Data() const { return reinterpret_cast<T*>(emulator::ThisCore().memory.data() + offset_); }

  const emulator::Buffer* buffer_ = nullptr;
  uint32_t generation_ = 0;
  uint32_t offset_ = 0;
  uint32_t bytes_ = 0;
};

template <class T>
class GlobalTensor {
 public:
  void SetGlobalBuffer(T* buffer, uint64_t size) {
    data_ = buffer;
    size_ = size;
  }
  void SetGlobalBuffer(T* buffer) { SetGlobalBuffer(buffer, UINT64_MAX / sizeof(T)); }
  GlobalTensor operator[](uint64_t element) const {
    GlobalTensor view;
    view.SetGlobalBuffer(data_ + element, element <= size_ ? size_ - element : 0);
    return view;
  }
  uint64_t GetSize() const { return size_; }

  // After all checks. Not part of Ascend C.
  const T* Read(uint64_t count) const {
    Check(count);
    emulator::ThisCore().device->ReadGlobal(emulator::ThisCore(), data_, count * sizeof(T));
    return data_;
  }
  T* Write(uint64_t count) const {
    Check(count);
    emulator::Core& core = emulator::ThisCore();
    core.device->WriteGlobal(core, data_, count * sizeof(T), core.Issued(PIPE_MTE3));
    return data_;
  }
  // By a synchronous call of the cube: visible to this core at once.
  T* WriteByCube(uint64_t count) const {
    Check(count);
    emulator::Core& core = emulator::ThisCore();
    core.device->WriteGlobal(core, data_, count * sizeof(T), 0);
    return data_;
  }
  // Without any traffic.
  const T* Peek(uint64_t count) const {
    Check(count);
    return data_;
  }

 private:
  void Check(uint64_t count) const {
    if (count > size_) {
      throw emulator::Fault(std::to_string(count) + " elements accessed in a global tensor of " +
                            std::to_string(size_));
    }
  }
  T* data_ = nullptr;
  uint64_t size_ = 0;
};

struct DataCopyExtParams {
  uint16_t blockCount = 0;
  uint32_t blockLen = 0;
  uint32_t srcStride = 0;
  uint32_t dstStride = 0;
  uint32_t rsv = 0;
};

template <class T>
struct DataCopyPadExtParams {
  bool isPad = false;
  uint8_t leftPadding = 0;
  uint8_t rightPadding = 0;
  T paddingValue{};
};

// Local rows start at data blocks: a row of blockLen bytes takes whole blocks, plus dstStride (srcStride) more of them.
template <class T>
void DataCopyPad(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const DataCopyExtParams& p,
                 const DataCopyPadExtParams<T>& pad) {
  using namespace emulator;
  if (p.blockLen == 0 || p.blockLen > kMaxBurst || p.blockCount == 0) {
    throw Fault("DataCopyPad: blockLen " + std::to_string(p.blockLen) + ", blockCount " + std::to_string(p.blockCount));
  }
  if (pad.leftPadding != 0) throw Fault("DataCopyPad: left padding is not emulated");
  if (pad.rightPadding * sizeof(T) > kBlock) throw Fault("DataCopyPad: more than 32 bytes of padding");
  const uint32_t count = p.blockLen / sizeof(T);
  const uint32_t padded = (count + pad.rightPadding) * sizeof(T);
  const uint32_t row = ((pad.isPad ? padded : p.blockLen) + kBlock - 1) / kBlock * kBlock;
  ThisCore().Issue(PIPE_MTE2);
  for (uint32_t b = 0; b < p.blockCount; ++b) {
    T* to = dst[b * (row + p.dstStride * kBlock) / sizeof(T)].Write(row / sizeof(T));
    const T* from = src[b * (p.blockLen + p.srcStride) / sizeof(T)].Read(count);
    std::memset(static_cast<void*>(to), kPoison, row);
    std::memcpy(static_cast<void*>(to), from, p.blockLen);
    if (pad.isPad) std::fill(to + count, to + count + pad.rightPadding, pad.paddingValue);
  }
}

template <class T>
void DataCopyPad(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyExtParams& p) {
  using namespace emulator;
  if (p.blockLen == 0 || p.blockLen > kMaxBurst || p.blockCount == 0) {
    throw Fault("DataCopyPad: blockLen " + std::to_string(p.blockLen) + ", blockCount " + std::to_string(p.blockCount));
  }
  const uint32_t row = (p.blockLen + kBlock - 1) / kBlock * kBlock;
  const uint32_t count = p.blockLen / sizeof(T);
  ThisCore().Issue(PIPE_MTE3);
  for (uint32_t b = 0; b < p.blockCount; ++b) {
    const T* from = src[b * (row + p.srcStride * kBlock) / sizeof(T)].Read(count);
    T* to = dst[b * (p.blockLen + p.dstStride) / sizeof(T)].Write(count);
    std::memcpy(static_cast<void*>(to), from, p.blockLen);
  }
}

inline void CheckWholeBlocks(uint64_t bytes) {
  if (bytes == 0 || bytes % emulator::kBlock != 0) {
    throw emulator::Fault("DataCopy of " + std::to_string(bytes) + " bytes: not a multiple of 32");
  }
}

template <class T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, uint32_t count) {
  CheckWholeBlocks(count * sizeof(T));
  DataCopyPad(dst, src, {1, static_cast<uint32_t>(count * sizeof(T)), 0, 0, 0}, DataCopyPadExtParams<T>{});
}

template <class T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, uint32_t count) {
  CheckWholeBlocks(count * sizeof(T));
  DataCopyPad(dst, src, {1, static_cast<uint32_t>(count * sizeof(T)), 0, 0, 0});
}

}  // namespace AscendC
