// A block that carries a run: its first thread steers, and hands what is long to all of them.
//
// The others wait at a barrier for work: a kernel, copied to shared memory, as a launch would pass it. Between two such
// hand-overs they do nothing, so what the first thread does by itself needs no care; but what it hands over may point
// to arrays only, since its stack is its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

#include "agf/config.hpp"
#include "block/line.cuh"
#include "block/memory.hpp"

#if defined(__CUDACC__)
#define AGF_DEVICE __device__ __forceinline__
#else
#define AGF_DEVICE inline
#include <chrono>

#include "shim.hpp"
#endif

namespace AGF_SPACE::cuda {

#if defined(AGF_NARROW)
inline constexpr unsigned crew_width = 4;
// Shorter loops are the first thread's: to hand them over takes as long.
inline constexpr std::size_t worth_sharing = 3;
#else
inline constexpr unsigned crew_width = 64;
inline constexpr std::size_t worth_sharing = 16;
#endif

struct Crew;

// A thread's place. `block` counts the pieces of the work in hand, which the threads do one after the other.
class Team {
 public:
#if defined(__CUDACC__)
  AGF_DEVICE unsigned thread() const { return threadIdx.x; }
  // Not __syncthreads: the first thread waits elsewhere in the program than its neighbours, which that does not allow.
  AGF_DEVICE void barrier() const { asm volatile("barrier.sync 0;" ::: "memory"); }
#else
  Team(shim::Block& block, unsigned thread) : place_(&block), thread_(thread) {}
  unsigned thread() const { return thread_; }
  void barrier() const { place_->barrier(thread_); }
  unsigned char* base() const { return place_->shared; }
#endif
  AGF_DEVICE unsigned threads() const { return crew_width; }
  AGF_DEVICE unsigned block() const { return block_; }
  AGF_DEVICE unsigned blocks() const { return blocks_; }
  // Shared memory of the work in hand; uninitialised.
  template <typename T>
  AGF_DEVICE T* shared() const;

  AGF_DEVICE Team at(unsigned block, unsigned blocks) const {
    Team there = *this;
    there.block_ = block;
    there.blocks_ = blocks;
    return there;
  }

 private:
#if !defined(__CUDACC__)
  shim::Block* place_;
  unsigned thread_;
#endif
  unsigned block_ = 0, blocks_ = 1;
};

// Lies at the beginning of the block's shared memory.
struct Crew {
  static constexpr std::size_t most_load = 640;

  AGF_CORE Crew(Team first, Line to_host, Memory mine)
      : memory(mine), line(to_host), team(first), begun_(nanoseconds()) {}

  // Since the crew took up its run.
  AGF_CORE double seconds() const { return 1e-9 * static_cast<double>(nanoseconds() - begun_); }

  // Null: the run is over.
  void (*work)(const Team& team, const Crew& crew) = nullptr;
  unsigned blocks = 0;
  Memory memory;
  Line line;
  Team team;  // of the first thread
  alignas(16) unsigned char load[most_load];

 private:
  AGF_CORE static std::uint64_t nanoseconds() {
#if defined(__CUDACC__)
    std::uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
#else
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                      std::chrono::nanoseconds(1));
#endif
  }

  std::uint64_t begun_;
};

inline constexpr std::size_t crew_bytes = (sizeof(Crew) + 15) / 16 * 16;
// For the work in hand.
inline constexpr std::size_t most_shared = 24 * 1024;

// The crew that the calling thread steers.
#if defined(__CUDACC__)
AGF_DEVICE unsigned char* shared_base() {
  extern __shared__ double2 agf_crew_shared[];
  return reinterpret_cast<unsigned char*>(agf_crew_shared);
}
AGF_DEVICE Crew& crew() { return *reinterpret_cast<Crew*>(shared_base()); }
template <typename T>
AGF_DEVICE T* Team::shared() const {
  return reinterpret_cast<T*>(shared_base() + crew_bytes);
}
#else
inline thread_local Crew* steered = nullptr;
inline Crew& crew() { return *steered; }
template <typename T>
T* Team::shared() const {
  return reinterpret_cast<T*>(base() + crew_bytes);
}
#endif

template <typename Kernel>
AGF_CORE AGF_APART void perform(const Team& team, const Crew& crew) {
#if defined(__CUDACC__)
  // The first thread has come here by another way than its neighbours, and from here on goes with them.
  __syncwarp();
#endif
  const Kernel kernel = *reinterpret_cast<const Kernel*>(crew.load);
  const unsigned blocks = crew.blocks;
  for (unsigned b = 0; b < blocks; ++b) {
    // Pieces use the same shared memory.
    if constexpr (!requires { Kernel::apart; }) {
      if (b > 0) team.barrier();
    }
    kernel(team.at(b, blocks));
  }
}

// Runs every piece of a kernel on all threads; called by the one that steers.
template <typename Kernel>
AGF_CORE void share(std::size_t blocks, const Kernel& kernel) {
  static_assert(sizeof(Kernel) <= Crew::most_load && std::is_trivially_copyable_v<Kernel>);
  if (blocks == 0) return;
#if !defined(__CUDACC__)
  Kernel seen(kernel);
#if __has_builtin(__builtin_clear_padding)
  __builtin_clear_padding(&seen);  // may hold what lay there before
#endif
  shim::check_shared(&seen, sizeof(seen));
#endif
  Crew& mine = crew();
  ::new (static_cast<void*>(mine.load)) Kernel(kernel);
  mine.blocks = static_cast<unsigned>(blocks);
  mine.work = &perform<Kernel>;
  const Team team = mine.team;
  team.barrier();
  mine.work(team, mine);
  team.barrier();
}

// What the threads beside the first do until it dismisses them.
AGF_CORE inline void serve(const Team& team, const Crew& crew) {
  for (;;) {
    team.barrier();
    if (!crew.work) return;
    crew.work(team, crew);
    team.barrier();
  }
}

AGF_CORE AGF_APART inline void dismiss(std::int32_t why) {
  Crew& mine = crew();
  mine.line.end(why);
  mine.work = nullptr;
  const Team team = mine.team;
  team.barrier();
}

#if !defined(__CUDACC__)
struct Left {
  std::int32_t why;
};
#endif

AGF_CORE AGF_APART inline void leave(std::int32_t why) {
#if defined(__CUDACC__)
  dismiss(why);
  asm volatile("exit;");
#else
  throw Left{why};
#endif
}

// Memory of the run. Where there is none left the run cannot go on: its block ends here, and the host, which finds the
// run unfinished, begins it again with more.
AGF_CORE AGF_APART inline void* take_memory(std::size_t bytes) {
  void* const at = crew().memory.take(bytes);
  if (!at) leave(shared::lacked_memory);
  return at;
}
AGF_CORE AGF_APART inline void give_memory(void* at, std::size_t bytes) { crew().memory.give(at, bytes); }

}  // namespace AGF_SPACE::cuda
