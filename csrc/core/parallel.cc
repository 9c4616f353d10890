#include "core/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#include "core/call_scope.h"
#include "core/error.h"

namespace maam {
namespace {

int CpusOfThisProcess() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

int CheckedThreads(const std::string& text) {
  char* end = nullptr;
  const long n = std::strtol(text.c_str(), &end, 10);
  if (end == text.c_str() || *end != '\0' || n < 1 || n > 1024) {
    throw Error("maam_ops: MAAM_OPS_NUM_THREADS: got '" + text + "', expected a whole number from 1 to 1024");
  }
  return static_cast<int>(n);
}

std::atomic<int>& Limit() {
  static std::atomic<int> limit{[] {
    const char* text = std::getenv("MAAM_OPS_NUM_THREADS");
    return text != nullptr && *text != '\0' ? CheckedThreads(text) : CpusOfThisProcess();
  }()};
  return limit;
}

class Pool {
 public:
  void Run(int64_t tasks, void (*run)(void*, int64_t), void* context, int helpers) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      helpers = std::min(helpers, Threads(helpers));
      run_ = run;
      context_ = context;
      tasks_ = tasks;
      next_.store(0, std::memory_order_relaxed);
      open_places_ = helpers;
    }
    helpers == 1 ? wake_.notify_one() : wake_.notify_all();
    Drain(run, context, tasks);
    std::unique_lock<std::mutex> lock(mutex_);
    open_places_ = 0;  // a helper that wakes only now must not touch a finished job
    done_.wait(lock, [this] { return running_ == 0; });
  }

  std::mutex in_use;  // held by the caller whose job runs

 private:
  // Helpers there are, if possible as many as wanted: where the system has no more threads, fewer do the same work.
  int Threads(int wanted) {
    try {
      for (; threads_ < wanted; ++threads_) std::thread([this] { Work(); }).detach();
    } catch (const std::system_error& error) {
      if (!said_)
        std::fprintf(stderr, "maam_ops: runs on %d threads, no more can be had: %s\n", threads_ + 1, error.what());
      said_ = true;
    }
    return threads_;
  }

  void Drain(void (*run)(void*, int64_t), void* context, int64_t tasks) {
    for (int64_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < tasks;) run(context, task);
  }

  void Work() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);  // Ctrl-C belongs to the program's own threads
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return open_places_ > 0; });
      --open_places_;
      ++running_;
      const auto run = run_;
      const auto context = context_;
      const int64_t tasks = tasks_;
      lock.unlock();
      Drain(run, context, tasks);
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<int64_t> next_{0};
  void (*run_)(void*, int64_t) = nullptr;
  void* context_ = nullptr;
  int64_t tasks_ = 0;
  int open_places_ = 0;
  int running_ = 0;
  int threads_ = 0;
  bool said_ = false;
};

// Leaked on purpose: helpers sleep on it until the process ends. A forked child leaves its parent's pool, whose
// threads it does not have and whose locks may be held, and starts another.
std::atomic<Pool*> pool{nullptr};

Pool& ThePool() {
  static const bool registered = [] {
    pool.store(new Pool);
    pthread_atfork(nullptr, nullptr, [] { pool.store(new Pool); });
    return true;
  }();
  (void)registered;
  return *pool.load();
}

thread_local bool inside_task = false;

}  // namespace

int NumThreads() { return CallScope::Threads(Limit().load(std::memory_order_relaxed)); }

void SetNumThreads(int n) { Limit().store(CheckedThreads(std::to_string(n))); }

namespace internal {

void RunTasks(int64_t tasks, void (*run)(void*, int64_t), void* context) {
  const int helpers = static_cast<int>(std::min<int64_t>(NumThreads(), tasks)) - 1;
  if (helpers > 0 && !inside_task) {
    Pool& shared = ThePool();
    std::unique_lock<std::mutex> lock(shared.in_use, std::try_to_lock);
    if (lock.owns_lock()) {
      inside_task = true;
      shared.Run(tasks, run, context, helpers);
      inside_task = false;
      return;
    }
  }
  for (int64_t task = 0; task < tasks; ++task) run(context, task);
}

}  // namespace internal
}  // namespace maam
