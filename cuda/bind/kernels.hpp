// The kernels of each architecture for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace agf::cuda::bind {

void bind_checks(pybind11::module_& m);
void bind_dense(pybind11::module_& m);
void bind_diagonal(pybind11::module_& m);
void bind_memory(pybind11::module_& m);
void bind_modular(pybind11::module_& m);
void bind_moments(pybind11::module_& m);

}  // namespace agf::cuda::bind
