// What every kernel object of Python is: a problem, with its leaves on arrays in the classes derived from it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <utility>

#include "agf/problem.hpp"

namespace agf::bind {

// `_core.Kernel` in Python, so that a function which takes `const Kernel&` takes them all.
struct Kernel {
  explicit Kernel(std::shared_ptr<const Problem> p) : problem(std::move(p)) {}
  virtual ~Kernel() = default;
  const std::shared_ptr<const Problem> problem;
};

void bind_kernel(pybind11::module_& m);

}  // namespace agf::bind
