// The verbs for problems whose neurons activate as directions of the neuron space.
#pragma once

#include <pybind11/pybind11.h>

namespace agf::bind {

void bind_directions(pybind11::module_& m);

}  // namespace agf::bind
