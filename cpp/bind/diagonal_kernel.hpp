// What runs need of a diagonal network, whatever the scalar type of the data and wherever they are.
#pragma once

#include <cstddef>
#include <vector>

#include "agf/design.hpp"

namespace agf::bind {

// `_core.DiagonalKernel` in Python, so that a run takes them all.
struct DiagonalKernel {
  virtual ~DiagonalKernel() = default;
  virtual const Design& design() const = 0;
  virtual const std::vector<double>& target() const = 0;
  virtual std::size_t depth() const = 0;
};

}  // namespace agf::bind
