// The thread pool: the one source of parallelism on the CPU.
#pragma once

#include <cstddef>
#include <functional>

namespace agf::cpu::pool {

// Runs task(0) ... task(count - 1); see agf::Backend::parallel.
void parallel(std::size_t count, const std::function<void(std::size_t)>& task);

// Threads used, the caller among them: AGF_THREADS (std::runtime_error unless from 1 to most_threads), else the
// processors this process may keep busy.
std::size_t threads();
void set_threads(std::size_t count);
inline constexpr std::size_t most_threads = 1024;

// Work below this many floating-point operations is done sooner than threads are woken.
inline constexpr double worth_sharing = 4e6;

// The same as `parallel` for a body of any type, with a serial shortcut that allocates nothing.
template <typename Body>
void for_each(std::size_t count, double flops, const Body& body) {
  if (count < 2 || flops < worth_sharing) {
    for (std::size_t i = 0; i < count; ++i) body(i);
  } else {
    parallel(count, std::cref(body));
  }
}

}  // namespace agf::cpu::pool
