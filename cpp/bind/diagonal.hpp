// Diagonal networks for Python: leaves on arrays, and the verbs on engines of their own.
#pragma once

#include <pybind11/pybind11.h>

namespace agf::bind {

void bind_diagonal(pybind11::module_& m);

}  // namespace agf::bind
