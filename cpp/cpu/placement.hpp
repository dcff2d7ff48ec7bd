// Where a worker wakes.
//
// Linux wakes a thread where it slept, on an idle processor beside that, or on the waker's. A virtual machine's idle
// processor is one that its host may have taken away, so it does not count as idle, nor is one looked for where two
// processors share a cache and both were busy of late. Then a worker waits behind its own caller, for tens of
// milliseconds at a time, beside an idle processor. So whoever wakes it says: not here.
// Only where threads are few: of many, some wake elsewhere anyway, and to tell each takes longer than it gains.
#pragma once

#include <cstddef>

#if defined(__linux__) && !defined(__ANDROID__)
#define AGF_PLACES_WORKERS
#include <pthread.h>
#include <sched.h>
#endif

namespace agf::cpu {

// All of it is called with the pool's lock held.
class Placement {
 public:
  static constexpr std::size_t most_workers = 3;

#if defined(AGF_PLACES_WORKERS)
  // By the worker: before it sleeps, and once it is awake.
  void lies_down() { asleep_ = true; }
  void is_up() {
    asleep_ = false;
    if (sent_) pthread_setaffinity_np(pthread_self(), sizeof(home_), &home_);
    sent_ = false;
  }
  // By whoever is to wake it.
  void before_waking(pthread_t worker) {
    if (!asleep_ || sent_) return;
    const int here = sched_getcpu();
    cpu_set_t mask;
    if (here < 0 || here >= CPU_SETSIZE) return;
    if (pthread_getaffinity_np(worker, sizeof(mask), &mask) != 0) return;
    home_ = mask;
    CPU_CLR(static_cast<unsigned>(here), &mask);
    if (CPU_COUNT(&mask) == 0) return;
    sent_ = pthread_setaffinity_np(worker, sizeof(mask), &mask) == 0;
  }

 private:
  bool asleep_ = false, sent_ = false;
  cpu_set_t home_{};
#else
  void lies_down() {}
  void is_up() {}
  template <typename Worker>
  void before_waking(const Worker&) {}
#endif
};

}  // namespace agf::cpu
