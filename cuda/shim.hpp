// Blocks of threads on the host, for tests of kernels where there is no GPU. Blocks follow one another.
#pragma once

#include <cstddef>
#include <functional>

namespace agf::shim {

struct Block {
  unsigned index, count, threads;
  unsigned char* shared;
  void* turns;  // who takes turns, or the barrier

  void barrier(unsigned thread);
};

using Body = std::function<void(Block&, unsigned thread)>;

// Every thread of every block runs `body` on a stack of so many bytes. What a block shares is filled with NaNs first: a
// GPU clears nothing.
inline constexpr std::size_t usual_stack = std::size_t{1} << 16;
void run(unsigned blocks, unsigned threads, std::size_t shared_bytes, const Body& body,
         std::size_t stack_bytes = usual_stack);

// Ends the program if what a thread hands to others holds an address on its own stack: on a device that means nothing
// to them. Looks at every word as if it were one.
void check_shared(const void* load, std::size_t bytes);

// The same for bodies that neither share nor wait.
template <typename F>
void run_apart(unsigned blocks, unsigned threads, const F& body) {
  Block block{0, blocks, threads, nullptr, nullptr};
  for (block.index = 0; block.index < blocks; ++block.index)
    for (unsigned thread = 0; thread < threads; ++thread) body(block, thread);
}

}  // namespace agf::shim
