// Working memory of one call: uninitialised, aligned to a cache line, carved into arrays that each start on one.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace maam {

constexpr int64_t kCacheLine = 64;

static inline int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

class Scratch {
 public:
  explicit Scratch(int64_t bytes)
      : memory_(static_cast<char*>(std::aligned_alloc(kCacheLine, RoundUp(bytes + 1, kCacheLine)))) {
    if (memory_ == nullptr) throw std::bad_alloc();
  }
  char* At(int64_t offset) const { return memory_.get() + offset; }

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  std::unique_ptr<char, Free> memory_;
};

// Hands out the offsets of arrays one after the other.
class ScratchLayout {
 public:
  int64_t Take(int64_t bytes) {
    const int64_t offset = total_;
    total_ += RoundUp(bytes, kCacheLine);
    return offset;
  }
  int64_t Total() const { return total_; }

 private:
  int64_t total_ = 0;
};

}  // namespace maam
