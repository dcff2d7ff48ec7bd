// The pool and the number of its threads: every task once, from several callers at a time, whatever the number.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "check.hpp"
#include "cpu/pool.hpp"
#include "cpu/processors.hpp"

namespace {

int failures = 0;

void every_task_once() {
  for (std::size_t threads : {1, 2, 3, 5}) {
    agf::cpu::pool::set_threads(threads);
    const auto call = [] {
      for (int round = 0; round < 200; ++round) {
        std::vector<int> done(static_cast<std::size_t>(1 + round % 7), 0);
        // Not shared: tasks write to places of their own.
        agf::cpu::pool::parallel(done.size(), [&](std::size_t i) { ++done[i]; });
        if (std::accumulate(done.begin(), done.end(), 0) != static_cast<int>(done.size())) std::abort();
      }
    };
    std::thread other(call);
    call();
    other.join();
    // A job within a task is that task's own.
    std::atomic<int> inner{0};
    agf::cpu::pool::parallel(4, [&](std::size_t) { agf::cpu::pool::parallel(5, [&](std::size_t) { ++inner; }); });
    CHECK(inner == 20);
    bool caught = false;
    try {
      agf::cpu::pool::parallel(8, [](std::size_t i) {
        if (i == 3) throw std::domain_error("3");
      });
    } catch (const std::domain_error&) {
      caught = true;
    }
    CHECK(caught);
  }
}

// Where the system has no more threads those that there are do all the work, and later calls try again.
void too_few_threads() {
#if defined(__GLIBC__)
  // Every task once, and so many of them at a time.
  const auto together = [](std::size_t tasks, int expected) {
    std::atomic<int> begun{0};
    std::atomic<bool> late{false};
    std::vector<int> done(tasks, 0);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    agf::cpu::pool::parallel(tasks, [&](std::size_t i) {
      ++done[i];
      ++begun;
      while (begun < expected && !late) {
        if (std::chrono::steady_clock::now() > end) late = true;
        std::this_thread::yield();
      }
    });
    return !late && done == std::vector<int>(tasks, 1);
  };
  agf::cpu::pool::set_threads(3);
  CHECK(together(3, 3));
  // A stack beyond every address space: no thread can be made from here on.
  pthread_attr_t usual, huge;
  CHECK(pthread_getattr_default_np(&usual) == 0 && pthread_getattr_default_np(&huge) == 0);
  CHECK(pthread_attr_setstacksize(&huge, std::size_t{1} << 56) == 0 && pthread_setattr_default_np(&huge) == 0);
  bool refused = false;
  try {
    std::thread([] {}).join();
  } catch (const std::system_error&) {
    refused = true;
  }
  CHECK(refused);
  agf::cpu::pool::set_threads(5);
  for (int call = 0; call < 3; ++call) CHECK(together(20, 1));
  CHECK(pthread_setattr_default_np(&usual) == 0);
  CHECK(together(5, 5));
#endif
}

// Workers that were sent elsewhere to wake may run wherever the process may.
void masks() {
#if defined(__linux__)
  cpu_set_t whole;
  pthread_getaffinity_np(pthread_self(), sizeof(whole), &whole);
  agf::cpu::pool::set_threads(2);
  std::atomic<int> others{0};
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // workers sleep by then
    agf::cpu::pool::parallel(2, [&](std::size_t) {
      cpu_set_t mask;
      pthread_getaffinity_np(pthread_self(), sizeof(mask), &mask);
      if (!CPU_EQUAL(&mask, &whole)) ++others;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    });
  }
  CHECK(others == 0);
#endif
}

void write(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file) << text << '\n';
}

void control_groups() {
  const std::size_t most = agf::cpu::processors("/nowhere");
  CHECK(most >= 1);
  const std::filesystem::path root =
      std::filesystem::temp_directory_path() / ("agf_smoke_" + std::to_string(std::random_device()()));
  const std::filesystem::path sys = root / "sys/fs/cgroup";
  const auto counted = [&] { return agf::cpu::processors(root.string()); };
  // Version 2: the least of a group and those it is in; "max" is no limit.
  write(root / "proc/self/cgroup", "0::/batch/job");
  write(sys / "batch/job/cpu.max", "max 100000");
  CHECK(counted() == most);
  write(sys / "batch/cpu.max", "90000 100000");
  CHECK(counted() == 1);
  write(sys / "batch/cpu.max", "100000000 100000");
  CHECK(counted() == most);
  write(sys / "batch/cpu.max", "nonsense");
  CHECK(counted() == most);
  // Rounded up: two threads use a time and a half.
  write(sys / "batch/job/cpu.max", "150000 100000");
  CHECK(counted() == std::min<std::size_t>(2, most));
  // In a container the group is the root.
  write(root / "proc/self/cgroup", "0::/");
  CHECK(counted() == most);
  write(sys / "cpu.max", "50000 100000");
  CHECK(counted() == 1);
  // Version 1
  write(root / "proc/self/cgroup", "4:memory:/a\n3:cpu,cpuacct:/a");
  write(sys / "cpu/a/cpu.cfs_quota_us", "-1");
  write(sys / "cpu/a/cpu.cfs_period_us", "100000");
  CHECK(counted() == most);
  write(sys / "cpu/a/cpu.cfs_quota_us", "100000");
  CHECK(counted() == 1);
  std::filesystem::remove_all(root);
}

}  // namespace

int thread_failures() {
  every_task_once();
  too_few_threads();
  masks();
  control_groups();
  return failures;
}
