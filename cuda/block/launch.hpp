// A launch of blocks that carry runs, each one after the other until none is left.
#pragma once

#include <cstddef>
#include <cstdint>

#include "block/line.cuh"
#include "block/views.hpp"

namespace agf::shared {

enum class Verb { alternate, alternate_directions, flow, flow_of_directions, diagonal_path, diagonal_flow, leaves };

struct Launch {
  Verb verb;

  std::size_t runs;
  // In the device's memory, and which of them each run is of.
  const ProblemView* problems;
  const std::size_t* problem;
  // What each run begins with, numbers[offsets[i]] and on: its options and its state (agf/passage.hpp), and whether it
  // is watched. In the device's memory.
  const double* numbers;
  const std::size_t* offsets;
  // Which runs, in this order: those of an earlier launch that found too little memory come again.
  const std::size_t* which;
  // Runs that were taken up so far.
  unsigned long long* taken;

  unsigned blocks;
  // Memory of each block.
  unsigned char* memory;
  std::size_t bytes;
  // In memory of the host: the lines of each block, `ring` numbers long, and the word that stops all.
  LineHead* heads;
  double* rings;
  std::size_t ring;
  const Word<std::int32_t>* stop;
};

// Threads and shared memory of a block, and how many blocks a device runs at the same time.
struct Shape {
  unsigned threads, blocks;
  std::size_t shared_bytes;
};
Shape block_shape();

// Queues the launch on a stream (its handle); on the host, in place of a device, it is done on return.
void carry(void* stream, const Launch& launch);

}  // namespace agf::shared
