#include "cpu/pool.hpp"

#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

#include "agf/interrupt.hpp"
#include "cpu/placement.hpp"
#include "cpu/processors.hpp"

namespace agf::cpu::pool {
namespace {

thread_local bool inside_task = false;

std::size_t default_threads() {
  const char* text = std::getenv("AGF_THREADS");
  if (!text || !*text) return processors();
  char* end = nullptr;
  errno = 0;
  const long count = std::strtol(text, &end, 10);
  if (*end || errno || count < 1 || count > static_cast<long>(most_threads)) {
    throw std::runtime_error("AGF_THREADS: got '" + std::string(text) + "', expected an integer from 1 to " +
                             std::to_string(most_threads) +
                             ": unset it to take as many as there are processors for this process");
  }
  return static_cast<std::size_t>(count);
}

// To sleep and be woken costs some 10 us each way, a tenth of the shortest work that is shared; so whoever has nothing
// to do looks about for this long first. Never where threads outnumber processors: it would take another's time.
constexpr std::chrono::microseconds patience{50};

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <typename Happened>
void look_about(const Happened& happened) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!happened()) {
    for (int i = 0; i < 16 && !happened(); ++i) pause();
    if (std::chrono::steady_clock::now() > end) return;
  }
}

std::atomic<std::size_t> wanted{0};

struct Job {
  const std::function<void(std::size_t)>* task = nullptr;
  std::size_t count = 0;
  std::atomic<std::size_t> next{0};
  std::mutex error_lock;
  std::exception_ptr error;

  void work() {
    inside_task = true;
    for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
      try {
        look_for_interruption();
        (*task)(i);
      } catch (...) {
        const std::lock_guard guard(error_lock);
        if (!error) error = std::current_exception();
        // Nobody will look at the rest.
        next.store(count, std::memory_order_relaxed);
      }
    }
    inside_task = false;
  }
};

class Pool {
 public:
  // One job at a time; whoever finds the pool taken works alone rather than wait.
  std::mutex in_use;

  void run(Job& job) {
    resize(wanted.load());
    {
      const std::lock_guard guard(lock_);
      job_ = &job;
      ++generation_;
      if (patient_ && workers_.size() <= Placement::most_workers)
        for (Worker& worker : workers_) worker.placement.before_waking(worker.thread.native_handle());
    }
    wake_.notify_all();
    job.work();
    {
      const std::lock_guard guard(lock_);
      // A worker that wakes from here on finds no job; only those that joined are waited for.
      job_ = nullptr;
    }
    const auto alone = [this] { return busy_.load() == 0; };
    if (patient_) look_about(alone);
    if (alone()) return;
    std::unique_lock guard(lock_);
    left_.wait(guard, alone);
  }

  void resize(std::size_t threads) {
    const std::size_t workers = threads - 1;
    if (threads != asked_) {
      {
        const std::lock_guard guard(lock_);
        stop_ = true;
      }
      wake_.notify_all();
      for (Worker& worker : workers_) worker.thread.join();
      workers_.clear();
      stop_ = false;
      asked_ = threads;
      patient_ = threads <= processors();
    }
    while (workers_.size() < workers) {
      Worker& worker = workers_.emplace_back();
      try {
        worker.thread = std::thread([this, &worker] { serve(worker.placement); });
      } catch (...) {
        // The system has no more threads: those that there are serve, and the next call asks for the others again.
        workers_.pop_back();
        break;
      }
    }
  }

 private:
  struct Worker {
    std::thread thread;
    Placement placement;
  };

  void serve(Placement& placement) {
    std::unique_lock guard(lock_);
    std::size_t seen = generation_.load();
    // A job may have been posted between the start of this thread and here.
    if (job_) --seen;
    for (;;) {
      while (!stop_ && generation_.load() == seen) {
        placement.lies_down();
        wake_.wait(guard);
        placement.is_up();
      }
      if (stop_) return;
      seen = generation_.load();
      Job* job = job_;
      if (!job) continue;
      ++busy_;
      guard.unlock();
      job->work();
      guard.lock();
      if (--busy_ == 0) left_.notify_one();
      if (!patient_) continue;
      guard.unlock();
      look_about([&] { return generation_.load() != seen; });
      guard.lock();
    }
  }

  std::mutex lock_;
  std::condition_variable wake_, left_;
  std::deque<Worker> workers_;  // stay where they are
  std::size_t asked_ = 0;       // threads, the caller among them
  Job* job_ = nullptr;
  // Written under the lock; read without it by those who look about.
  std::atomic<std::size_t> generation_{0};
  std::atomic<std::size_t> busy_{0};
  bool stop_ = false;
  // Written while there are no workers.
  bool patient_ = false;
};

// Never destroyed: a thread of the caller's may still be in a call when the process ends. Made as the library is
// loaded, so that no fork falls into its making.
Pool* the_pool = [] {
  // A child has none of the workers, and locks in whatever state they were: it starts afresh and leaves the old be.
  pthread_atfork(nullptr, nullptr, [] {
    the_pool = new Pool;
    inside_task = false;
  });
  return new Pool;
}();

}  // namespace

std::size_t threads() {
  std::size_t count = wanted.load();
  if (count == 0) {
    std::size_t none = 0;
    wanted.compare_exchange_strong(none, default_threads());
    count = wanted.load();
  }
  return count;
}

void set_threads(std::size_t count) { wanted.store(count ? count : 1); }

void parallel(std::size_t count, const std::function<void(std::size_t)>& task) {
  const auto serially = [&] {
    for (std::size_t i = 0; i < count; ++i) {
      look_for_interruption();
      task(i);
    }
  };
  if (count < 2 || inside_task || threads() < 2) return serially();
  Pool& pool = *the_pool;
  const std::unique_lock turn(pool.in_use, std::try_to_lock);
  if (!turn.owns_lock()) return serially();
  Job job;
  job.task = &task;
  job.count = count;
  pool.run(job);
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace agf::cpu::pool
