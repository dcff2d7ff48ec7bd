// The verbs for problems that run on the general engine.
#pragma once

#include <pybind11/pybind11.h>

namespace agf::bind {

void bind_engine(pybind11::module_& m);

}  // namespace agf::bind
