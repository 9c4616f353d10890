// What one AI Core is here: a Unified Buffer, pipes that run asynchronously, and the events that order them.
//
// Instructions are executed at once, in program order, but checked as if each pipe ran on its own: a vector clock per
// pipe says which instructions of the other pipes it is known to come after. Two accesses to the same word, one of
// them a write, that no event or barrier orders are a fault, whatever the values happen to be.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

enum pipe_t { PIPE_S, PIPE_V, PIPE_M, PIPE_MTE1, PIPE_MTE2, PIPE_MTE3, PIPE_FIX, PIPE_ALL };

namespace emulator {

constexpr uint32_t kPipes = PIPE_ALL;
constexpr uint32_t kBlock = 32;          // bytes of a data block: the alignment of local addresses
constexpr uint32_t kWord = 4;            // granularity of the ordering check
constexpr int kPoison = 0xFF;            // four such bytes are a float NaN, two a half and a bfloat16 NaN
constexpr int kEventIds = 8;             // of each pair of pipes
constexpr uint32_t kMaxBurst = 2097151;  // longest blockLen of DataCopyPad, in bytes

constexpr uint64_t kSystemWorkspace = 16 * 1024 * 1024;  // what the library keeps for itself, before the operator's own

using Clock = std::array<uint32_t, kPipes>;

inline void Join(Clock& clock, const Clock& other) {
  for (uint32_t p = 0; p < kPipes; ++p) clock[p] = std::max(clock[p], other[p]);
}

inline const char* Name(pipe_t pipe) {
  constexpr const char* names[] = {"S", "V", "M", "MTE1", "MTE2", "MTE3", "FIX", "ALL"};
  return names[pipe];
}

class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// One word of local memory: who wrote it last, and the last reader on each pipe.
struct Word {
  uint32_t write = 0;
  uint32_t write_pipe = PIPE_S;
  Clock read{};
  bool written = false;
};

// Global memory the host handed over: accesses outside every region are faults.
struct Region {
  uint8_t* data;
  uint64_t bytes;
  bool writable;
  std::string name;
  std::vector<int16_t> writer;  // core that wrote two bytes, -1 if none
  std::vector<uint32_t> epoch;  // and its MTE3 instruction
};

struct Statistics {
  uint64_t ub_bytes = 0;  // allocated by InitBuffer
  uint64_t gm_read = 0;
  uint64_t gm_written = 0;
  uint64_t vector_elements = 0;
};

class Device;

class Core {
 public:
  Core(Device* device, int index, uint64_t ub_bytes) : device(device), index(index), ub_bytes_(ub_bytes) {}

  uint32_t Allocate(uint64_t bytes) {
    const uint64_t offset = statistics.ub_bytes;
    statistics.ub_bytes += (bytes + kBlock - 1) / kBlock * kBlock;
    if (statistics.ub_bytes > ub_bytes_) {
      throw Fault("Unified Buffer overflow: " + std::to_string(statistics.ub_bytes) + " of " +
                  std::to_string(ub_bytes_) + " bytes");
    }
    memory.resize(statistics.ub_bytes, kPoison);
    words_.resize(statistics.ub_bytes / kWord);
    return static_cast<uint32_t>(offset);
  }

  void Poison(uint32_t offset, uint32_t bytes) { std::memset(memory.data() + offset, kPoison, bytes); }

  // An instruction starts on a pipe; its accesses follow.
  void Issue(pipe_t pipe) {
    pipe_ = pipe;
    ++issued_[pipe];
    if (pipe == PIPE_S) clock_[PIPE_S][PIPE_S] = issued_[PIPE_S] - 1;  // the scalar unit is in order with itself
  }

  void Read(uint32_t offset, uint32_t bytes) {
    for (uint32_t w = offset / kWord; w < (offset + bytes + kWord - 1) / kWord; ++w) {
      Word& word = words_[w];
      if (!word.written) throw Fault("local memory read before it was written, byte " + std::to_string(w * kWord));
      CheckAfterWrite(word, "reads");
      word.read[pipe_] = issued_[pipe_];
    }
  }

  void Write(uint32_t offset, uint32_t bytes) {
    for (uint32_t w = offset / kWord; w < (offset + bytes + kWord - 1) / kWord; ++w) {
      Word& word = words_[w];
      if (word.written) CheckAfterWrite(word, "overwrites");
      for (uint32_t p = 0; p < kPipes; ++p) {
        if (!IsOrdered(p, word.read[p])) {
          throw Fault(std::string("pipe ") + Name(pipe_) + " overwrites what pipe " + Name(static_cast<pipe_t>(p)) +
                      " may still be reading: no event or barrier between them");
        }
      }
      word = {issued_[pipe_], static_cast<uint32_t>(pipe_), {}, true};
    }
  }

  // Pipe `to` comes after everything that pipe `from` has been given so far.
  Clock Snapshot(pipe_t from) const {
    Clock clock = clock_[from];
    clock[from] = issued_[from];
    return clock;
  }
  void Wait(pipe_t to, const Clock& clock) { Join(clock_[to], clock); }

  void SetFlag(pipe_t from, pipe_t to, int id) {
    if (id < 0 || id >= kEventIds) throw Fault("event id " + std::to_string(id) + " is not in 0 to 7");
    if (!events_.emplace(EventKey{from, to, id}, Snapshot(from)).second) {
      throw Fault(EventText("SetFlag", from, to, id) + " twice without a WaitFlag");
    }
  }
  void WaitFlag(pipe_t from, pipe_t to, int id) {
    const auto event = events_.find(EventKey{from, to, id});
    if (event == events_.end()) throw Fault(EventText("WaitFlag", from, to, id) + " without a SetFlag: would hang");
    Wait(to, event->second);
    events_.erase(event);
  }
  int FreeEvent(pipe_t from, pipe_t to) const {
    for (int id = 0; id < kEventIds; ++id) {
      if (!events_.count(EventKey{from, to, id})) return id;
    }
    throw Fault("no event id left for " + std::string(Name(from)) + "_" + Name(to));
  }

  void Barrier(pipe_t pipe) {
    if (pipe == PIPE_S) throw Fault("PipeBarrier<PIPE_S> is a hardware error");
    if (pipe != PIPE_ALL) return Wait(pipe, Snapshot(pipe));
    Clock all{};
    for (uint32_t p = 0; p < kPipes; ++p) Join(all, Snapshot(static_cast<pipe_t>(p)));
    for (Clock& clock : clock_) Join(clock, all);
  }

  void Finish() const {
    if (allocated_tensors != 0) throw Fault(std::to_string(allocated_tensors) + " tensors of queues were never freed");
    if (!events_.empty()) {
      const auto& [from, to, id] = events_.begin()->first;
      throw Fault(EventText("SetFlag", from, to, id) + " was never waited for");
    }
  }

  uint32_t Issued(pipe_t pipe) const { return issued_[pipe]; }
  uint32_t ScalarKnows(pipe_t pipe) const { return clock_[PIPE_S][pipe]; }

  Device* device;
  int index;
  std::vector<uint8_t> memory;
  Statistics statistics;
  int allocated_tensors = 0;
  uint32_t last_read_of_written_memory = 0;  // instruction of pipe MTE2

 private:
  using EventKey = std::tuple<pipe_t, pipe_t, int>;

  bool IsOrdered(uint32_t pipe, uint32_t instruction) const {
    const bool same_instruction = pipe == static_cast<uint32_t>(pipe_) && instruction == issued_[pipe_];
    return same_instruction || clock_[pipe_][pipe] >= instruction;
  }
  void CheckAfterWrite(const Word& word, const char* verb) const {
    if (!IsOrdered(word.write_pipe, word.write)) {
      throw Fault(std::string("pipe ") + Name(pipe_) + " " + verb + " what pipe " +
                  Name(static_cast<pipe_t>(word.write_pipe)) +
                  " may still be writing: no event or barrier between them");
    }
  }
  static std::string EventText(const char* call, pipe_t from, pipe_t to, int id) {
    return std::string(call) + "<" + Name(from) + "_" + Name(to) + ">(" + std::to_string(id) + ")";
  }

  uint64_t ub_bytes_;
  std::vector<Word> words_;
  Clock issued_{};
  std::array<Clock, kPipes> clock_{};
  std::map<EventKey, Clock> events_;
  pipe_t pipe_ = PIPE_S;
};

}  // namespace emulator
