// The kernel objects of Python: a Dense problem and its leaves on arrays.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "agf/problem.hpp"

namespace agf::bind {

// What every kernel object is, whatever its scalar type. `_core.DenseKernel` in Python, so that a function which takes
// `const DenseKernel&` takes them all.
struct DenseKernel {
  explicit DenseKernel(std::shared_ptr<const Problem> p) : problem(std::move(p)) {}
  virtual ~DenseKernel() = default;
  const std::shared_ptr<const Problem> problem;
};

void bind_dense(pybind11::module_& m);

}  // namespace agf::bind
