// Dense problems for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace agf::bind {

void bind_dense(pybind11::module_& m);

}  // namespace agf::bind
