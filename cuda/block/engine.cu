// The engines and the problems once more, for runs that a block carries: one thread of it steers.
#define AGF_BLOCK "block/containers.hpp"

#include "block/report.cuh"
#include "dense.cu"
#include "design.cu"
#include "modular.cu"
#include "modular_hessians.cu"
#include "moments.cu"
#include "product.cu"

#include "agf/active.cpp"
#include "agf/alternate.cpp"
#include "agf/basis_factor.cpp"
#include "agf/coupled.cpp"
#include "agf/coupled_history.cpp"
#include "agf/coupled_linear.cpp"
#include "agf/coupled_method.cpp"
#include "agf/diagonal_field.cpp"
#include "agf/diagonal_flow.cpp"
#include "agf/diagonal_neuron.cpp"
#include "agf/diagonal_path.cpp"
#include "agf/diagonal_state.cpp"
#include "agf/direction_alternate.cpp"
#include "agf/direction_flow.cpp"
#include "agf/directions.cpp"
#include "agf/dormant.cpp"
#include "agf/flow.cpp"
#include "agf/integrate.cpp"
#include "agf/linear_race.cpp"
#include "agf/modes.cpp"
#include "agf/multistep.cpp"
#include "agf/signed_least_squares.cpp"
#include "agf/transport.cpp"

#include "block/carry.cuh"

#if !defined(__CUDACC__)
#include <thread>
#endif

namespace agf::shared {

namespace {

constexpr std::size_t shared_bytes = block::cuda::crew_bytes + block::cuda::most_shared;

}  // namespace

#if defined(__CUDACC__)

namespace {

__global__ void __launch_bounds__(block::cuda::crew_width) carry_runs(const Launch launch) {
  const block::cuda::Team team;
  if (threadIdx.x == 0) {
    block::cuda::steer(team, blockIdx.x, launch);
  } else {
    block::cuda::serve(team, block::cuda::crew());
  }
}

}  // namespace

Shape block_shape() {
  int device = 0, processors = 0, each = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device) != cudaSuccess ||
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, carry_runs, block::cuda::crew_width, shared_bytes) !=
          cudaSuccess)
    return {block::cuda::crew_width, 1, shared_bytes};
  return {block::cuda::crew_width, static_cast<unsigned>(std::max(1, processors * each)), shared_bytes};
}

void carry(void* stream, const Launch& launch) {
  carry_runs<<<launch.blocks, block::cuda::crew_width, shared_bytes, static_cast<cudaStream_t>(stream)>>>(launch);
}

#else

namespace {

void carry_runs(const Launch& launch) {
  constexpr std::size_t stack_bytes = std::size_t{1} << 20;
  const auto body = [&launch](shim::Block& place, unsigned thread) {
    const block::cuda::Team team(place, thread);
    auto& crew = *reinterpret_cast<block::cuda::Crew*>(place.shared);
    if (thread == 0) {
      block::cuda::steered = &crew;
      try {
        block::cuda::steer(team, place.index, launch);
      } catch (const block::cuda::Left& left) {
        block::cuda::dismiss(left.why);
      }
    } else {
      block::cuda::serve(team, crew);
    }
  };
  shim::run(launch.blocks, block::cuda::crew_width, shared_bytes, body, stack_bytes);
}

}  // namespace

Shape block_shape() { return {block::cuda::crew_width, 3, shared_bytes}; }

void carry(void*, const Launch& launch) {
  // Beside the host's thread, as on a device.
  std::thread([launch] { carry_runs(launch); }).detach();
}

#endif

}  // namespace agf::shared
