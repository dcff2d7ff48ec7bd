// One source of every kernel, for a GPU and for the host.
//
// A kernel is a struct: operator()(Team) is what one thread does, `launch` runs it on blocks of threads. nvcc makes a
// grid of it. Elsewhere (AGF_SHIM) the threads of a block are fibers that take turns at barriers, or, where
// AGF_SHIM_THREADS is defined, threads of the system held by a std::barrier, which ThreadSanitizer watches. AGF_NARROW
// makes blocks of a few threads, for whole runs on the host.
#pragma once

#if defined(AGF_BLOCK)
#include "block/crew.cuh"
#else

#include <stddef.h>

#include <type_traits>

#include "agf/config.hpp"
#include "device.hpp"

#if defined(__CUDACC__)
#define AGF_DEVICE __device__ __forceinline__
#define AGF_SHARED_ALIGN __align__(16)
#else
#define AGF_DEVICE inline
#include "shim.hpp"
#endif

namespace agf::cuda {

#if defined(__CUDACC__)

// What a thread knows of its place, and what its block shares.
class Team {
 public:
  AGF_DEVICE unsigned block() const { return blockIdx.x; }
  AGF_DEVICE unsigned blocks() const { return gridDim.x; }
  AGF_DEVICE unsigned thread() const { return threadIdx.x; }
  AGF_DEVICE unsigned threads() const { return blockDim.x; }
  // All threads of the block get here before one goes on, and see what the others wrote.
  AGF_DEVICE void barrier() const { __syncthreads(); }
  // The block's shared memory, as many bytes as the launch asked for; uninitialised.
  template <typename T>
  AGF_DEVICE T* shared() const {
    extern __shared__ double2 agf_shared[];
    return reinterpret_cast<T*>(agf_shared);
  }
};

template <typename Kernel>
__global__ void run(const Kernel kernel) {
  kernel(Team{});
}

// Kernels of one width can promise it to the compiler, and ask for so many blocks at once on a multiprocessor: it then
// knows how many registers a thread may have.
template <typename Kernel>
constexpr int at_once = [] {
  if constexpr (requires { Kernel::at_once; }) return Kernel::at_once;
  return 1;
}();
template <typename Kernel, int threads>
__global__ void __launch_bounds__(threads, at_once<Kernel>) run_bounded(const Kernel kernel) {
  kernel(Team{});
}

template <typename Kernel>
void launch(Stream stream, size_t blocks, unsigned threads, size_t shared_bytes, const Kernel& kernel) {
  if (blocks == 0) return;
  check_grid(blocks);
  const auto queue = static_cast<cudaStream_t>(stream.handle);
  if constexpr (requires { Kernel::width; }) {
    allow_shared(reinterpret_cast<const void*>(&run_bounded<Kernel, Kernel::width>), shared_bytes);
    run_bounded<Kernel, Kernel::width><<<static_cast<unsigned>(blocks), threads, shared_bytes, queue>>>(kernel);
  } else {
    allow_shared(reinterpret_cast<const void*>(&run<Kernel>), shared_bytes);
    run<Kernel><<<static_cast<unsigned>(blocks), threads, shared_bytes, queue>>>(kernel);
  }
  check_launch();
}

#else

class Team {
 public:
  Team(shim::Block& block, unsigned thread) : block_(block), thread_(thread) {}
  unsigned block() const { return block_.index; }
  unsigned blocks() const { return block_.count; }
  unsigned thread() const { return thread_; }
  unsigned threads() const { return block_.threads; }
  void barrier() const { block_.barrier(thread_); }
  template <typename T>
  T* shared() const {
    return reinterpret_cast<T*>(block_.shared);
  }

 private:
  shim::Block& block_;
  unsigned thread_;
};

// A kernel without barriers says so, and its threads simply follow one another.
template <typename Kernel>
void launch(Stream, size_t blocks, unsigned threads, size_t shared_bytes, const Kernel& kernel) {
  if (blocks == 0) return;
  check_grid(blocks);
  const auto body = [&kernel](shim::Block& block, unsigned thread) { kernel(Team(block, thread)); };
  if constexpr (requires { Kernel::apart; }) {
    shim::run_apart(static_cast<unsigned>(blocks), threads, body);
  } else {
    shim::run(static_cast<unsigned>(blocks), threads, shared_bytes, body);
  }
}

#endif

}  // namespace agf::cuda

#endif
