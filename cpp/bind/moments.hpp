// Linear networks and attention for Python: problems whose data are a few moments.
#pragma once

#include <pybind11/pybind11.h>

namespace agf::bind {

void bind_moments(pybind11::module_& m);

}  // namespace agf::bind
