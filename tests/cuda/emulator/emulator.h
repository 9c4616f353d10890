// Blocks and threads on one CPU thread: a block's threads are fibers that run until they wait at a barrier, in an order
// the test chooses. Memory is checked access by access:
//
// - global: inside a registered array, aligned, never an element nobody has written; inputs are not written; no two
//   threads write an element in one launch; no thread reads what another block wrote, or its own block without a
//   barrier between, and none writes what another block has read.
// - shared: inside the block's memory, aligned, never an element nobody has written; two threads may meet at an
// element,
//   one of them writing, only with a barrier between.
//
// What is wrong ends the launch with an Error that says where.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace emulator {

struct Index {
  unsigned x;
};

struct Thread {
  Index thread, block, grid;
};

constexpr int kWarp = 32;
constexpr int64_t kSharedBytes = 48 * 1024;

const Thread& ThisThread();
void BlockBarrier();

// The slots of this thread's lane and of another one; a warp meets twice.
uint64_t ExchangeBits(unsigned mask, uint64_t bits, int lanes);

template <class T>
T Exchange(unsigned mask, T value, int lanes) {
  uint64_t bits = 0;
  static_assert(sizeof value <= sizeof bits);
  __builtin_memcpy(&bits, &value, sizeof value);
  bits = ExchangeBits(mask, bits, lanes);
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

enum class Kind { kInput, kResult, kWorkspace };

// Arrays that kernels may touch until the end of their life.
void Register(const std::string& name, const void* begin, int64_t bytes, Kind kind);
void Forget(const void* begin);

void CheckGlobal(const void* p, int64_t bytes, int64_t alignment, bool write);
void CheckShared(const void* p, int64_t bytes, int64_t alignment, bool write);

// The block's shared memory, the same for all its threads.
unsigned char* SharedMemory(int64_t bytes);

void RunGrid(const char* op, int64_t blocks, int threads, const std::function<void()>& kernel);

}  // namespace emulator
