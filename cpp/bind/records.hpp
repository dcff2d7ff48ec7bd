// What runs take and give, as dictionaries of plain numbers and NumPy arrays.
#pragma once

#include <pybind11/pybind11.h>

#include "agf/trajectory.hpp"

namespace agf::bind {

State state_from(const pybind11::dict& start, std::size_t params);

pybind11::dict to_dict(State state);
pybind11::dict to_dict(Jump jump);
pybind11::dict to_dict(const Point& point, const State* saved);
pybind11::dict to_dict(Trajectory path);

}  // namespace agf::bind
