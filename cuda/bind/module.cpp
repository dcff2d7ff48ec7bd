#include <pybind11/pybind11.h>

#include <string>

#include "device.hpp"
#include "host.hpp"
#include "kernels.hpp"

namespace {

namespace py = pybind11;

py::dict info() {
  std::string why;
  const int count = agf::cuda::device_count(why);
  py::list names;
  for (int device = 0; device < count; ++device) names.append(agf::cuda::device_name(device));
  py::dict facts;
  facts["devices"] = names;
  facts["why"] = why;
  facts["architectures"] = AGF_CUDA_ARCHITECTURES;
  return facts;
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  // Kernels here are kernels there, and the host's part of the work is done there.
  const py::module_ core = py::module_::import("agf_fast._core");
  const auto given = core.attr("_host").cast<py::capsule>();
  agf::cuda::host() = *given.get_pointer<const agf::Host>();
  agf::cuda::bind::bind_checks(m);
  agf::cuda::bind::bind_dense(m);
  agf::cuda::bind::bind_diagonal(m);
  agf::cuda::bind::bind_memory(m);
  agf::cuda::bind::bind_modular(m);
  agf::cuda::bind::bind_moments(m);
  m.def("info", &info);
  m.attr("__version__") = AGF_VERSION;
}
