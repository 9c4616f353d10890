#pragma once

namespace maam {

// One call of an entry point, on its thread. Settings that another thread may change meanwhile are read once: working
// memory is laid out by the number of threads, and must be used by the same number.
class CallScope {
 public:
  CallScope() { inside_ = true; }
  ~CallScope() {
    inside_ = false;
    threads_ = 0;
  }
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  // `limit` as it was when this call first asked; outside of a call as it is.
  static int Threads(int limit) {
    if (!inside_) return limit;
    if (threads_ == 0) threads_ = limit;
    return threads_;
  }

 private:
  static inline thread_local bool inside_ = false;
  static inline thread_local int threads_ = 0;
};

}  // namespace maam
