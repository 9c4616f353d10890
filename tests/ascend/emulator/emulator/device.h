// The device: global memory, and cores that run as fibers so that a launch is deterministic and needs no locks.
#pragma once

#include <ucontext.h>

#include <functional>
#include <memory>

#include "emulator/core.h"

namespace emulator {

class Device {
 public:
  explicit Device(uint32_t ub_bytes) : ub_bytes_(ub_bytes) {}

  void Map(const void* data, uint64_t bytes, bool writable, const std::string& name) {
    auto* begin = static_cast<uint8_t*>(const_cast<void*>(data));
    const uint64_t words = bytes / 2 + 1;  // the smallest element has two bytes
    regions_.push_back({begin, bytes, writable, name, std::vector<int16_t>(writable ? words : 0, -1),
                        std::vector<uint32_t>(writable ? words : 0)});
  }

  void ReadGlobal(Core& core, const void* from, uint64_t bytes) {
    const Region& region = Find(from, bytes, "read");
    core.statistics.gm_read += bytes;
    if (!region.writable) return;
    core.last_read_of_written_memory = core.Issued(PIPE_MTE2);
    ForEachElement(region, from, bytes, [&](uint64_t i) {
      const int writer = region.writer[i];
      if (writer < 0) throw Fault("global memory " + region.name + " read before it was written");
      const uint32_t known = writer == core.index ? core.ScalarKnows(PIPE_MTE3) : published_[writer];
      if (known < region.epoch[i]) {
        throw Fault("core " + std::to_string(core.index) + " reads what core " + std::to_string(writer) +
                    " may still be writing to " + region.name + ": no barrier between them");
      }
    });
  }

  void WriteGlobal(Core& core, const void* to, uint64_t bytes, uint32_t epoch) {
    Region& region = Find(to, bytes, "written");
    core.statistics.gm_written += bytes;
    if (!region.writable) throw Fault("input " + region.name + " is written");
    ForEachElement(region, to, bytes, [&](uint64_t i) {
      if (region.writer[i] >= 0 && region.writer[i] != core.index) {
        throw Fault("cores " + std::to_string(region.writer[i]) + " and " + std::to_string(core.index) +
                    " both write byte " + std::to_string(2 * i) + " of " + region.name);
      }
      region.writer[i] = static_cast<int16_t>(core.index);
      region.epoch[i] = epoch;
    });
  }

  // Runs `kernel` on every core; throws Fault, naming the core.
  void Launch(int cores, const std::function<void()>& kernel);
  void SyncAll();

  Core& Current() { return *cores_[current_]; }
  int Cores() const { return static_cast<int>(cores_.size()); }
  const Core& At(int i) const { return *cores_[i]; }
  static Device*& Active() {
    static Device* active = nullptr;
    return active;
  }

 private:
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<uint8_t[]> stack;
    bool done = false;
    std::string fault;
  };

  Region& Find(const void* address, uint64_t bytes, const char* verb) {
    const auto* begin = static_cast<const uint8_t*>(address);
    for (Region& region : regions_) {
      if (begin >= region.data && begin + bytes <= region.data + region.bytes) return region;
      if (begin < region.data + region.bytes && begin + bytes > region.data) {
        throw Fault(region.name + ": " + std::to_string(bytes) + " bytes " + verb + " at " +
                    std::to_string(begin - region.data) + " of " + std::to_string(region.bytes));
      }
    }
    throw Fault("global memory outside every tensor is " + std::string(verb));
  }

  template <class F>
  static void ForEachElement(const Region& region, const void* address, uint64_t bytes, F&& f) {
    const uint64_t begin = static_cast<const uint8_t*>(address) - region.data;
    for (uint64_t i = begin / 2; i < (begin + bytes + 1) / 2; ++i) f(i);
  }

  static void Enter() {
    Device& device = *Active();
    Fiber& fiber = device.fibers_[device.current_];
    try {
      device.kernel_();
      device.Current().Finish();
    } catch (const Fault& fault) {
      fiber.fault = "core " + std::to_string(device.current_) + ": " + fault.what();
    }
    fiber.done = true;
    swapcontext(&fiber.context, &device.scheduler_);
  }

  uint32_t ub_bytes_;
  std::vector<Region> regions_;
  std::vector<std::unique_ptr<Core>> cores_;
  std::vector<Fiber> fibers_;
  std::vector<uint32_t> published_;  // MTE3 instructions of each core that the others may rely on
  std::function<void()> kernel_;
  ucontext_t scheduler_{};
  int current_ = 0;
};

inline void Device::Launch(int cores, const std::function<void()>& kernel) {
  constexpr size_t kStack = 256 * 1024;
  kernel_ = kernel;
  fibers_ = std::vector<Fiber>(cores);
  published_.assign(cores, 0);
  cores_.clear();
  for (int i = 0; i < cores; ++i) {
    cores_.push_back(std::make_unique<Core>(this, i, ub_bytes_));
    fibers_[i].stack = std::make_unique<uint8_t[]>(kStack);
    getcontext(&fibers_[i].context);
    fibers_[i].context.uc_stack.ss_sp = fibers_[i].stack.get();
    fibers_[i].context.uc_stack.ss_size = kStack;
    makecontext(&fibers_[i].context, &Device::Enter, 0);
  }
  Active() = this;
  for (bool running = true; running;) {
    int done = 0;
    std::vector<uint32_t> arrived = published_;
    for (current_ = 0; current_ < cores; ++current_) {
      Fiber& fiber = fibers_[current_];
      if (!fiber.done) swapcontext(&scheduler_, &fiber.context);
      if (!fiber.fault.empty()) throw Fault(fiber.fault);
      done += fiber.done;
      arrived[current_] = cores_[current_]->ScalarKnows(PIPE_MTE3);
    }
    published_ = arrived;
    running = done < cores;
    if (done != 0 && running) throw Fault("SyncAll: " + std::to_string(done) + " cores never arrive: would hang");
  }
}

// Publishes what the scalar unit knows to be finished: writes that no barrier has waited for stay invisible.
inline void Device::SyncAll() { swapcontext(&fibers_[current_].context, &scheduler_); }

inline Core& ThisCore() { return Device::Active()->Current(); }

}  // namespace emulator
