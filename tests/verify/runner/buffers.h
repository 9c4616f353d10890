// Memory for the parameters of one call: between pages that may not be touched, or as the allocator (and with it a
// sanitizer) hands it out.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

namespace runner {

// kEnd: the last byte lies before a guard page, kBegin: the first lies behind one, kHeap: malloc.
enum class Place { kEnd, kBegin, kHeap };

constexpr int kPoison = 0xFF;  // NaN in every float type

class Buffer {
 public:
  Buffer(Place place, int64_t bytes) : place_(place), bytes_(bytes) {
    if (place == Place::kHeap) {
      data_ = static_cast<char*>(std::malloc(bytes));
      if (data_ == nullptr && bytes > 0) throw std::bad_alloc();
    } else {
      const int64_t page = sysconf(_SC_PAGESIZE);
      const int64_t inside = (bytes + page - 1) / page * page;
      mapped_ = inside + 2 * page;
      map_ = static_cast<char*>(mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
      if (map_ == MAP_FAILED) throw std::bad_alloc();
      if (inside > 0 && mprotect(map_ + page, inside, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
      data_ = map_ + page + (place == Place::kEnd ? inside - bytes : 0);
    }
    if (bytes > 0) std::memset(data_, kPoison, bytes);
  }
  Buffer(Buffer&& other) noexcept { *this = static_cast<Buffer&&>(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(place_, other.place_);
    std::swap(bytes_, other.bytes_);
    std::swap(data_, other.data_);
    std::swap(map_, other.map_);
    std::swap(mapped_, other.mapped_);
    return *this;
  }
  ~Buffer() {
    if (map_ != nullptr) {
      munmap(map_, mapped_);
    } else {
      std::free(data_);
    }
  }

  // From now on a write ends the process. On the heap, where that cannot be had, inputs are compared afterwards.
  void ForbidWrites() {
    if (map_ == nullptr || bytes_ == 0) return;
    const int64_t page = sysconf(_SC_PAGESIZE);
    mprotect(map_ + page, mapped_ - 2 * page, PROT_READ);
  }

  char* Data() const { return data_; }
  int64_t Bytes() const { return bytes_; }
  // Whether an address lies in this buffer's own pages or its guards.
  bool Owns(const void* address) const {
    const char* at = static_cast<const char*>(address);
    return map_ != nullptr && at >= map_ && at < map_ + mapped_;
  }

 private:
  Place place_ = Place::kHeap;
  int64_t bytes_ = 0;
  char* data_ = nullptr;
  char* map_ = nullptr;
  int64_t mapped_ = 0;
};

}  // namespace runner
