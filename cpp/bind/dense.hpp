// Dense problems for Python.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "agf/sigma.hpp"

namespace agf::bind {

// The sigma of a name and its parameter (ValueError for others).
Sigma sigma_of(const std::string& activation, double parameter);

void bind_dense(pybind11::module_& m);

}  // namespace agf::bind
