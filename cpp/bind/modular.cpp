#include "bind/modular.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <utility>
#include <vector>

#include "bind/host_call.hpp"
#include "bind/in_double.hpp"
#include "bind/leaves.hpp"
#include "bind/template_of.hpp"
#include "cpu/modular.hpp"

namespace agf::bind {
namespace {

namespace py = pybind11;
using cpu::ModularCpu;

// Arrays of T outside, double inside.
template <typename T>
class Modular final : public Leaves<InDouble<ModularCpu>, T, OnHost> {
 public:
  explicit Modular(std::shared_ptr<const ModularCpu> modular)
      : Leaves<InDouble<ModularCpu>, T, OnHost>(
            modular, std::make_shared<const InDouble<ModularCpu>>(modular, modular->samples() * modular->outputs()),
            modular_layout(modular->period())) {}
};

template <typename T>
void bind_typed(py::module_& m, const char* name) {
  bind_leaves<Modular<T>>(m, name).def_property_readonly("dtype", [](const Modular<T>&) { return py::dtype::of<T>(); });
}

py::object modular(const py::object& object, const std::vector<py::ssize_t>& frequencies) {
  const Template given = template_of(object, frequencies);
  auto made = std::make_shared<const ModularCpu>(given.x.data(), given.x.size(), given.frequencies);
  if (given.wide) return py::cast(std::make_unique<Modular<double>>(std::move(made)));
  return py::cast(std::make_unique<Modular<float>>(std::move(made)));
}

}  // namespace

void bind_modular(py::module_& m) {
  bind_typed<double>(m, "ModularF64");
  bind_typed<float>(m, "ModularF32");
  m.def("modular", &modular, py::arg("template"), py::arg("frequencies"));
}

}  // namespace agf::bind
