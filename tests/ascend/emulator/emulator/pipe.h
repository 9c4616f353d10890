// TPipe, TQue, TBuf, events and barriers.
#pragma once

#include <deque>

#include "emulator/tensor.h"

using event_t = int;

namespace AscendC {

enum class TPosition { GM, A1, A2, B1, B2, C1, C2, CO1, CO2, VECIN, VECOUT, VECCALC };
using QuePosition = TPosition;

// FROM_TO: pipe TO waits for what pipe FROM was given before the flag.
enum class HardEvent { MTE2_V, V_MTE2, V_MTE3, MTE3_V, MTE2_S, S_MTE2, S_V, V_S, S_MTE3, MTE3_S, MTE2_MTE3, MTE3_MTE2 };

inline std::pair<pipe_t, pipe_t> PipesOf(HardEvent event) {
  constexpr std::pair<pipe_t, pipe_t> pipes[] = {{PIPE_MTE2, PIPE_V}, {PIPE_V, PIPE_MTE2},    {PIPE_V, PIPE_MTE3},
                                                 {PIPE_MTE3, PIPE_V}, {PIPE_MTE2, PIPE_S},    {PIPE_S, PIPE_MTE2},
                                                 {PIPE_S, PIPE_V},    {PIPE_V, PIPE_S},       {PIPE_S, PIPE_MTE3},
                                                 {PIPE_MTE3, PIPE_S}, {PIPE_MTE2, PIPE_MTE3}, {PIPE_MTE3, PIPE_MTE2}};
  return pipes[static_cast<int>(event)];
}

template <HardEvent event>
void SetFlag(int id) {
  const auto [from, to] = PipesOf(event);
  emulator::ThisCore().SetFlag(from, to, id);
}
template <HardEvent event>
void WaitFlag(int id) {
  const auto [from, to] = PipesOf(event);
  emulator::ThisCore().WaitFlag(from, to, id);
}
template <pipe_t pipe>
void PipeBarrier() {
  emulator::ThisCore().Barrier(pipe);
}
inline void SyncAll() { emulator::ThisCore().device->SyncAll(); }
inline int64_t GetBlockIdx() { return emulator::ThisCore().index; }
inline int64_t GetBlockNum() { return emulator::ThisCore().device->Cores(); }

template <TPosition position, int32_t depth>
class TQue {
  static_assert(position == TPosition::VECIN || position == TPosition::VECOUT || position == TPosition::VECCALC);
  enum State { kFree, kAllocated, kQueued, kDequeued };
  struct Slot {
    emulator::Buffer buffer;
    State state = kFree;
    emulator::Clock ready{};  // of the producer at EnQue
    emulator::Clock freed{};  // of the consumer at FreeTensor
  };

 public:
  void Init(uint32_t buffers, uint32_t bytes) {
    for (uint32_t i = 0; i < buffers; ++i) {
      slots_.emplace_back();
      slots_.back().buffer = {emulator::ThisCore().Allocate(bytes), (bytes + 31) / 32 * 32, 0};
    }
  }

  template <class T>
  LocalTensor<T> AllocTensor() {
    // Buffers go round, as on the device: the oldest one comes back first.
    Slot& slot = slots_.empty() ? Missing() : slots_[next_++ % slots_.size()];
    if (slot.state != kFree) throw emulator::Fault("AllocTensor: no free buffer in the queue: would hang");
    slot.state = kAllocated;
    ++emulator::ThisCore().allocated_tensors;
    emulator::ThisCore().Wait(kProducer, slot.freed);
    return LocalTensor<T>(&slot.buffer, slot.buffer.offset, slot.buffer.bytes);
  }

  template <class T>
  bool EnQue(const LocalTensor<T>& tensor) {
    Slot& slot = Find(tensor, "EnQue");
    if (slot.state != kAllocated) throw emulator::Fault("EnQue of a tensor that is not fresh from AllocTensor");
    if (queue_.size() >= depth) throw emulator::Fault("EnQue: the queue is full");
    slot.state = kQueued;
    slot.ready = emulator::ThisCore().Snapshot(kProducer);
    queue_.push_back(&slot);
    return true;
  }

  template <class T>
  LocalTensor<T> DeQue() {
    if (queue_.empty()) throw emulator::Fault("DeQue of an empty queue: would hang");
    Slot& slot = *queue_.front();
    queue_.pop_front();
    slot.state = kDequeued;
    emulator::ThisCore().Wait(kConsumer, slot.ready);
    return LocalTensor<T>(&slot.buffer, slot.buffer.offset, slot.buffer.bytes);
  }

  template <class T>
  void FreeTensor(LocalTensor<T>& tensor) {
    Slot& slot = Find(tensor, "FreeTensor");
    if (slot.state == kFree) throw emulator::Fault("FreeTensor twice");
    if (slot.state == kQueued) throw emulator::Fault("FreeTensor of a tensor that is still queued: DeQue is missing");
    slot.state = kFree;
    --emulator::ThisCore().allocated_tensors;
    slot.freed = emulator::ThisCore().Snapshot(kConsumer);
    ++slot.buffer.generation;
    emulator::ThisCore().Poison(slot.buffer.offset, slot.buffer.bytes);
  }

 private:
  static constexpr pipe_t kProducer = position == TPosition::VECIN ? PIPE_MTE2 : PIPE_V;
  static constexpr pipe_t kConsumer = position == TPosition::VECOUT ? PIPE_MTE3 : PIPE_V;

  [[noreturn]] static Slot& Missing() { throw emulator::Fault("AllocTensor before InitBuffer"); }
  template <class T>
  Slot& Find(const LocalTensor<T>& tensor, const char* call) {
    for (Slot& slot : slots_) {
      if (&slot.buffer == tensor.GetBuffer()) return slot;
    }
    throw emulator::Fault(std::string(call) + " of a tensor from elsewhere");
  }

  std::deque<Slot> slots_;  // a deque: handles point at its elements
  std::deque<Slot*> queue_;
  uint64_t next_ = 0;
};

template <TPosition position>
class TBuf {
 public:
  void Init(uint32_t bytes) { buffer_ = {emulator::ThisCore().Allocate(bytes), (bytes + 31) / 32 * 32, 0}; }
  template <class T>
  LocalTensor<T> Get() {
    return LocalTensor<T>(&buffer_, buffer_.offset, buffer_.bytes);
  }

 private:
  emulator::Buffer buffer_;
};

class TPipe {
 public:
  template <TPosition position, int32_t depth>
  bool InitBuffer(TQue<position, depth>& queue, uint8_t buffers, uint32_t bytes) {
    queue.Init(buffers, bytes);
    return true;
  }
  template <TPosition position>
  bool InitBuffer(TBuf<position>& buffer, uint32_t bytes) {
    buffer.Init(bytes);
    return true;
  }
  int FetchEventID(HardEvent event) {
    const auto [from, to] = PipesOf(event);
    return emulator::ThisCore().FreeEvent(from, to);
  }
};

}  // namespace AscendC
