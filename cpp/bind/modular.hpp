// The kernel object of modular addition for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace agf::bind {

void bind_modular(pybind11::module_& m);

}  // namespace agf::bind
