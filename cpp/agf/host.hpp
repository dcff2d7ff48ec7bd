// What the host offers to problems on a device: work of theirs that is not the device's.
#pragma once

#include <cstddef>

#include "column_loops.hpp"

namespace agf {

struct Host {
  // An orthonormal basis of the row space of the row-major A (n, d), see cpu::blas::row_space.
  std::size_t (*row_space)(std::size_t n, std::size_t d, double* a, double tolerance, double* basis);
  const ColumnLoops* columns;
};

}  // namespace agf
