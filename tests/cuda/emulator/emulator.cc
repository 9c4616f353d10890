#include "emulator.h"

#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "core/aot.h"
#include "core/error.h"
#include "core/trace.h"

namespace emulator {
namespace {

constexpr int64_t kStackBytes = 128 * 1024;
constexpr int64_t kGranule = 2;  // bytes that have a history of their own

// Who touched a granule last. Launches and epochs are counted over the life of the process, so nothing is ever reset.
struct Cell {
  bool written = false;
  uint64_t write_launch = 0, read_launch = 0;
  uint64_t write_epoch = 0, read_epoch = 0;
  unsigned writer_block = 0, reader_block = 0;
  unsigned writer = 0, reader = 0;
};

struct Range {
  std::string name;
  Kind kind;
  int64_t bytes;
  std::vector<Cell> cells;
};

enum class State { kReady, kAtBlock, kAtWarp, kDone };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  State state = State::kDone;
  Thread index;
  uint64_t slot = 0;
};

struct Machine {
  std::map<uintptr_t, Range> ranges;
  std::vector<Fiber> fibers;
  ucontext_t scheduler;
  Fiber* now = nullptr;
  const std::function<void()>* kernel = nullptr;
  std::string fault;
  uint64_t launch = 0;
  uint64_t epoch = 0;  // counts barriers; part of the history of cells
  int order = 0;       // 0 ascending, 1 descending, others shuffled by this seed
  int64_t shared_bytes = 0;
  alignas(256) unsigned char shared[kSharedBytes];
  std::vector<Cell> shared_cells = std::vector<Cell>(kSharedBytes / kGranule);
};

Machine& M() {
  static Machine machine;
  return machine;
}

void Leave(State state) {
  Machine& m = M();
  m.now->state = state;
  swapcontext(&m.now->context, &m.scheduler);
}

std::string Where() {
  const Thread& t = M().now->index;
  return "block " + std::to_string(t.block.x) + " of " + std::to_string(t.grid.x) + ", thread " +
         std::to_string(t.thread.x);
}

void Fault(const std::string& what) {
  Machine& m = M();
  if (m.fault.empty()) m.fault = what + " (" + Where() + ")";
  Leave(State::kDone);
}

void Entry() {
  (*M().kernel)();
  Leave(State::kDone);
}

void Start(Fiber* fiber) {
  fiber->state = State::kReady;
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack.get();
  fiber->context.uc_stack.ss_size = kStackBytes;
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, Entry, 0);
}

void CheckHistory(Cell* cell, bool write, bool shared, const std::string& what) {
  Machine& m = M();
  const Thread& t = m.now->index;
  const auto raced = [&](uint64_t launch, uint64_t epoch, unsigned block, unsigned thread) {
    if (shared) return epoch == m.epoch && thread != t.thread.x;
    if (launch != m.launch) return false;
    return block != t.block.x || (epoch == m.epoch && thread != t.thread.x);
  };
  if (!write && !cell->written) return Fault(what + ": reads what nobody has written");
  if (raced(cell->write_launch, cell->write_epoch, cell->writer_block, cell->writer)) {
    return Fault(what + (write ? ": two threads write one element" : ": reads what another thread is writing"));
  }
  if (write && raced(cell->read_launch, cell->read_epoch, cell->reader_block, cell->reader)) {
    return Fault(what + ": writes what another thread is reading");
  }
  if (write) {
    *cell = {true,      m.launch,           cell->read_launch, m.epoch,     cell->read_epoch,
             t.block.x, cell->reader_block, t.thread.x,        cell->reader};
  } else if (cell->read_launch != m.launch || cell->read_epoch != m.epoch || shared) {
    const bool several = cell->read_epoch == m.epoch && cell->reader != t.thread.x && cell->read_launch == m.launch;
    cell->read_launch = m.launch;
    cell->read_epoch = m.epoch;
    cell->reader_block = t.block.x;
    cell->reader = several ? ~0u : t.thread.x;
  } else if (cell->reader_block != t.block.x || cell->reader != t.thread.x) {
    cell->reader = ~0u;  // several: no writer is the same thread
  }
}

}  // namespace

const Thread& ThisThread() { return M().now->index; }

void BlockBarrier() { Leave(State::kAtBlock); }

uint64_t ExchangeBits(unsigned mask, uint64_t bits, int lanes) {
  Machine& m = M();
  if (mask != 0xFFFFFFFFu) Fault("shuffle: the emulator knows full warps only");
  Fiber* self = m.now;
  const int other = static_cast<int>(self->index.thread.x) ^ lanes;
  self->slot = bits;
  Leave(State::kAtWarp);
  if (other < 0 || other >= static_cast<int>(m.fibers.size())) Fault("shuffle: no such lane");
  const uint64_t result = m.fibers[other].slot;
  Leave(State::kAtWarp);
  return result;
}

void Register(const std::string& name, const void* begin, int64_t bytes, Kind kind) {
  Range range{name, kind, bytes, std::vector<Cell>((bytes + kGranule - 1) / kGranule)};
  for (Cell& cell : range.cells) cell.written = kind == Kind::kInput;
  if (bytes > 0) M().ranges[reinterpret_cast<uintptr_t>(begin)] = std::move(range);
}

void Forget(const void* begin) { M().ranges.erase(reinterpret_cast<uintptr_t>(begin)); }

void CheckGlobal(const void* p, int64_t bytes, int64_t alignment, bool write) {
  Machine& m = M();
  const uintptr_t at = reinterpret_cast<uintptr_t>(p);
  auto next = m.ranges.upper_bound(at);
  if (next == m.ranges.begin()) return Fault("global memory: outside every array");
  auto& [begin, range] = *std::prev(next);
  const int64_t offset = static_cast<int64_t>(at - begin);
  if (offset + bytes > range.bytes) {
    return Fault("global memory: outside every array, nearest " + range.name + " + " + std::to_string(offset));
  }
  if (at % alignment != 0) return Fault(range.name + ": misaligned access at byte " + std::to_string(offset));
  if (write && range.kind == Kind::kInput) return Fault(range.name + ": an input is written");
  for (int64_t i = offset / kGranule; i < (offset + bytes + kGranule - 1) / kGranule; ++i) {
    CheckHistory(&range.cells[i], write, false, range.name);
  }
}

void CheckShared(const void* p, int64_t bytes, int64_t alignment, bool write) {
  Machine& m = M();
  const int64_t offset = static_cast<const unsigned char*>(p) - m.shared;
  if (offset < 0 || offset + bytes > m.shared_bytes) {
    return Fault("shared memory: outside, at byte " + std::to_string(offset) + " of " + std::to_string(m.shared_bytes));
  }
  if (offset % alignment != 0) return Fault("shared memory: misaligned access at byte " + std::to_string(offset));
  for (int64_t i = offset / kGranule; i < (offset + bytes + kGranule - 1) / kGranule; ++i) {
    CheckHistory(&m.shared_cells[i], write, true, "shared memory");
  }
}

unsigned char* SharedMemory(int64_t bytes) {
  Machine& m = M();
  if (bytes > kSharedBytes) Fault("shared memory: more than 48 KiB");
  m.shared_bytes = bytes;
  return m.shared;
}

// One pass runs every fiber that can; then whole warps and the block are let on.
void RunBlock(const std::vector<int>& order) {
  Machine& m = M();
  const int threads = static_cast<int>(m.fibers.size());
  while (m.fault.empty()) {
    int ran = 0;
    for (int t : order) {
      if (m.fibers[t].state != State::kReady) continue;
      ++ran;
      m.now = &m.fibers[t];
      swapcontext(&m.scheduler, &m.now->context);
      if (!m.fault.empty()) return;
    }
    const auto count = [&](int first, int last, State state) {
      return std::count_if(m.fibers.begin() + first, m.fibers.begin() + last,
                           [&](const Fiber& f) { return f.state == state; });
    };
    if (count(0, threads, State::kDone) == threads) return;
    for (int first = 0; first < threads; first += kWarp) {
      const int last = std::min(threads, first + kWarp);
      if (count(first, last, State::kAtWarp) != last - first) continue;
      for (int t = first; t < last; ++t) m.fibers[t].state = State::kReady;
      ran = 1;
    }
    if (count(0, threads, State::kAtBlock) == threads) {
      for (Fiber& fiber : m.fibers) fiber.state = State::kReady;
      ++m.epoch;
      ran = 1;
    }
    if (ran == 0) m.fault = "a barrier or shuffle that some threads never reach";
  }
}

void RunGrid(const char* op, int64_t blocks, int threads, const std::function<void()>& kernel) {
  Machine& m = M();
  if (blocks >= int64_t{1} << 31) m.fault = "a grid of 2^31 blocks or more";
  ++m.launch;
  m.kernel = &kernel;
  if (static_cast<int>(m.fibers.size()) != threads) m.fibers = std::vector<Fiber>(threads);
  std::vector<int> order(threads);
  for (int i = 0; i < threads; ++i) order[i] = m.order == 1 ? threads - 1 - i : i;
  std::mt19937 random(m.order);
  for (int64_t i = 0; i < blocks && m.fault.empty(); ++i) {
    if (m.order > 1) std::shuffle(order.begin(), order.end(), random);
    const int64_t block = m.order == 1 ? blocks - 1 - i : i;
    std::memset(m.shared, 0xFF, kSharedBytes);
    std::fill(m.shared_cells.begin(), m.shared_cells.end(), Cell{});
    ++m.epoch;
    for (int t = 0; t < threads; ++t) {
      m.fibers[t].index = {{static_cast<unsigned>(t)}, {static_cast<unsigned>(block)}, {static_cast<unsigned>(blocks)}};
      Start(&m.fibers[t]);
    }
    RunBlock(order);
  }
  if (!m.fault.empty()) throw maam::Error(std::string("emulator: ") + op + ": " + std::exchange(m.fault, ""));
}

}  // namespace emulator

namespace maam {

const void* HostData(const Tensor& tensor, std::vector<char>*) { return tensor.data; }

}  // namespace maam

// An entry point on arrays in host memory, of which the first `inputs` are not to be written. Returns 0, or 1 with the
// error's text.
MAAM_EXPORT int EmulatedCall(const char* function, int nparam, int inputs, void** params, int* ndims, int64_t** shapes,
                             const char** dtypes, int order, char* message, int64_t size) {
  emulator::Machine& m = emulator::M();
  m.order = order;
  int status = 0;
  try {
    const maam::AotCall call(function, nparam, params, ndims, shapes, dtypes, nullptr);
    for (int i = 0; i < nparam; ++i) {
      const std::string name = (i < inputs ? "input " : "result ") + std::to_string(i < inputs ? i : i - inputs);
      emulator::Register(name, params[i], call[i].Bytes(),
                         i < inputs ? emulator::Kind::kInput : emulator::Kind::kResult);
    }
    maam::AotFunctions().at(function)(nparam, params, ndims, shapes, dtypes, nullptr, nullptr);
  } catch (const std::exception& error) {
    std::snprintf(message, size, "%s", error.what());
    status = 1;
  }
  m.ranges.clear();
  return status;
}
