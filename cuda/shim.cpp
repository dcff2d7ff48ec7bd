#include "shim.hpp"

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#if defined(AGF_SHIM_THREADS)
#include <barrier>
#include <thread>
#else
#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#endif

namespace agf::shim {
namespace {

// What a block shares, aligned as on a device. All bits set is a NaN of either precision.
class Shared {
 public:
  explicit Shared(std::size_t bytes) : words_((bytes + sizeof(Word) - 1) / sizeof(Word)) {}
  unsigned char* fresh() {
    if (words_.empty()) return nullptr;
    std::memset(words_.data(), 0xff, words_.size() * sizeof(Word));
    return words_.data()->bytes;
  }

 private:
  struct alignas(16) Word {
    unsigned char bytes[16];
  };
  std::vector<Word> words_;
};

}  // namespace

#if defined(AGF_SHIM_THREADS)

void Block::barrier(unsigned) { static_cast<std::barrier<>*>(turns)->arrive_and_wait(); }

void run(unsigned blocks, unsigned threads, std::size_t shared_bytes, const Body& body, std::size_t) {
  Shared shared(shared_bytes);
  std::barrier<> barrier(static_cast<std::ptrdiff_t>(threads));
  Block block{0, blocks, threads, shared.fresh(), &barrier};
  std::vector<std::thread> team;
  team.reserve(threads);
  for (unsigned thread = 0; thread < threads; ++thread) {
    team.emplace_back([&, thread] {
      for (unsigned b = 0; b < blocks; ++b) {
        body(block, thread);
        // The next block begins when all have left this one.
        barrier.arrive_and_wait();
        if (thread == 0) {
          ++block.index;
          shared.fresh();
        }
        barrier.arrive_and_wait();
      }
    });
  }
  for (std::thread& member : team) member.join();
}

void check_shared(const void*, std::size_t) {}

#else

namespace {

// Fibers, from block to block. The first visit to each goes by its context; later ones jump, which asks the system for
// nothing.
struct Fibers {
  struct Fiber {
    ucontext_t context;
    jmp_buf at;
    bool begun = false, over = false;
  };

  std::vector<Fiber> fibers;
  std::unique_ptr<unsigned char[]> stacks;
  std::size_t stack_bytes = 0;
  jmp_buf home;
  const Body* body = nullptr;
  Block* block = nullptr;
  unsigned now = 0;
  std::exception_ptr failure;

  void visit(unsigned thread);
  void leave() {
    if (_setjmp(fibers[now].at) == 0) _longjmp(home, 1);
  }
  [[noreturn]] void work() noexcept {
    for (;;) {
      try {
        (*body)(*block, now);
      } catch (...) {
        failure = std::current_exception();
      }
      fibers[now].over = true;
      leave();
    }
  }
};

// Those that the calling thread runs.
thread_local Fibers* running = nullptr;

// makecontext passes ints: a pointer goes in two.
void enter(unsigned high, unsigned low) {
  const auto address = static_cast<std::uintptr_t>(high) << 32 | low;
  reinterpret_cast<Fibers*>(address)->work();
}

void Fibers::visit(unsigned thread) {
  now = thread;
  Fiber& fiber = fibers[thread];
  if (_setjmp(home) != 0) return;
  if (fiber.begun) _longjmp(fiber.at, 1);
  fiber.begun = true;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stacks.get() + thread * stack_bytes;
  fiber.context.uc_stack.ss_size = stack_bytes;
  fiber.context.uc_link = nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(this);
  makecontext(&fiber.context, reinterpret_cast<void (*)()>(&enter), 2, static_cast<unsigned>(address >> 32),
              static_cast<unsigned>(address));
  setcontext(&fiber.context);
}

}  // namespace

void Block::barrier(unsigned) { static_cast<Fibers*>(turns)->leave(); }

void run(unsigned blocks, unsigned threads, std::size_t shared_bytes, const Body& body, std::size_t stack_bytes) {
  // Kept: stacks are large beside the work of most blocks.
  thread_local Fibers team;
  if (team.fibers.size() < threads || team.stack_bytes < stack_bytes) {
    team.fibers.assign(threads, {});
    team.stacks = std::make_unique_for_overwrite<unsigned char[]>(threads * stack_bytes);
    team.stack_bytes = stack_bytes;
  }
  running = &team;
  Shared shared(shared_bytes);
  for (unsigned b = 0; b < blocks; ++b) {
    Block block{b, blocks, threads, shared.fresh(), &team};
    team.body = &body;
    team.block = &block;
    for (unsigned thread = 0; thread < threads; ++thread) team.fibers[thread].over = false;
    for (unsigned left = threads; left > 0;) {
      left = 0;
      // In turn from the first and from the last, so that no order is what makes a kernel right.
      for (unsigned k = 0; k < threads; ++k) {
        const unsigned thread = b % 2 == 0 ? k : threads - 1 - k;
        if (team.fibers[thread].over) continue;
        team.visit(thread);
        if (!team.fibers[thread].over) ++left;
      }
      if (team.failure) {
        // The others are left where they are, and begin anew another time.
        for (Fibers::Fiber& fiber : team.fibers) fiber.begun = false;
        std::rethrow_exception(std::exchange(team.failure, nullptr));
      }
    }
  }
}

void check_shared(const void* load, std::size_t bytes) {
  if (!running) return;
  const unsigned char* const low = running->stacks.get() + running->now * running->stack_bytes;
  const unsigned char* const high = low + running->stack_bytes;
  for (std::size_t at = 0; at + sizeof(void*) <= bytes; at += sizeof(void*)) {
    const unsigned char* word = nullptr;
    std::memcpy(&word, static_cast<const unsigned char*>(load) + at, sizeof(word));
    if (word < low || word >= high) continue;
    std::fprintf(stderr, "shim: work for all threads holds an address on the stack of the one that hands it over\n");
    std::abort();
  }
}

#endif

}  // namespace agf::shim
