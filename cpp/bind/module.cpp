#include <pybind11/pybind11.h>

#include <string>

#include "agf/host.hpp"
#include "bind/dense.hpp"
#include "bind/diagonal.hpp"
#include "bind/engine.hpp"
#include "bind/kernel.hpp"
#include "bind/modular.hpp"
#include "bind/moments.hpp"
#include "bind/pointwise.hpp"
#include "cpu/blas.hpp"
#include "cpu/isa.hpp"
#include "cpu/pool.hpp"

namespace {

namespace py = pybind11;

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

py::dict info() {
  py::list sets;
  for (const agf::cpu::Isa* const* set = agf::cpu::isa_available(); *set; ++set) sets.append((*set)->name);
  py::dict facts;
  facts["version"] = AGF_VERSION;
  facts["isa"] = agf::cpu::isa().name;
  facts["isa_available"] = sets;
  facts["threads"] = agf::cpu::pool::threads();
  facts["blas"] = agf::cpu::blas::description();
  facts["compiler"] = compiler();
  return facts;
}

void set_threads(py::ssize_t count) {
  constexpr auto most = static_cast<py::ssize_t>(agf::cpu::pool::most_threads);
  if (count < 1 || count > most) {
    throw py::value_error("k: got " + std::to_string(count) + ", expected an integer from 1 to " +
                          std::to_string(most));
  }
  agf::cpu::pool::set_threads(static_cast<std::size_t>(count));
}

// What `_cuda` asks of this module.
py::capsule host() {
  static const agf::Host offered{agf::cpu::blas::row_space, &agf::cpu::isa().columns};
  return py::capsule(&offered);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  // Each may refuse, and then the import says why.
  agf::cpu::blas::load();
  agf::cpu::isa();
  agf::cpu::pool::threads();
  agf::bind::bind_kernel(m);
  agf::bind::bind_dense(m);
  agf::bind::bind_moments(m);
  agf::bind::bind_modular(m);
  agf::bind::bind_diagonal(m);
  agf::bind::bind_engine(m);
  agf::bind::bind_pointwise(m);
  m.def("info", &info);
  m.def("set_threads", &set_threads, py::arg("threads"));
  m.def("get_threads", &agf::cpu::pool::threads);
  m.attr("_host") = host();
  m.attr("__version__") = AGF_VERSION;
}
