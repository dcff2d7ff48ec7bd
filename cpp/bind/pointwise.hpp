// The loops over sigma of every instruction set of this machine, for tests and measurements.
#pragma once

#include <pybind11/pybind11.h>

namespace agf::bind {

void bind_pointwise(pybind11::module_& m);

}  // namespace agf::bind
