// A small thread pool: no OpenMP, because libgomp hangs in a forked child. The threads sleep between calls, survive
// fork (a child gets a fresh pool) and live in a library that is never unloaded.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "core/export.h"

namespace maam {

// The limit in force: MAAM_OPS_NUM_THREADS, else the CPUs this process may use; the same throughout one call.
MAAM_PUBLIC int NumThreads();
MAAM_PUBLIC void SetNumThreads(int n);  // throws Error unless n >= 1

namespace internal {
void RunTasks(int64_t tasks, void (*run)(void* context, int64_t task), void* context);
}

// Calls f(task) once for each task in [0, tasks), in any order and on any thread. f must not throw.
// Called from inside f, or while another thread uses the pool, it runs serially: never more threads than the limit.
// Which thread ran a task must not matter to the result: that is how results stay the same for any thread count.
template <class F>
void ParallelFor(int64_t tasks, F&& f) {
  internal::RunTasks(tasks, [](void* context, int64_t task) { (*static_cast<F*>(context))(task); }, &f);
}

// Workers worth having for so many tasks, at least one.
inline int64_t WorkersFor(int64_t tasks) { return std::clamp<int64_t>(tasks, 1, NumThreads()); }

// As ParallelFor, for tasks that need working memory: calls f(worker, task), worker in [0, workers), and no two calls
// with the same worker at a time.
template <class F>
void ParallelForWorkers(int64_t workers, int64_t tasks, F&& f) {
  std::atomic<int64_t> next{0};
  ParallelFor(workers, [&](int64_t worker) {
    for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) f(worker, task);
  });
}

}  // namespace maam
