#include "modular.hpp"

#include <pybind11/stl.h>

#include <memory>
#include <utility>
#include <vector>

#include "bind/leaves.hpp"
#include "bind/template_of.hpp"
#include "call.hpp"
#include "kernels.hpp"

namespace agf::cuda::bind {

namespace py = pybind11;

namespace {

// Arrays of T outside, double inside.
template <typename T>
class Modular final : public agf::bind::Leaves<ModularCuda, T, AtRest> {
 public:
  explicit Modular(std::shared_ptr<const ModularCuda> modular)
      : agf::bind::Leaves<ModularCuda, T, AtRest>(modular, modular, agf::bind::modular_layout(modular->period())) {}
};

template <typename T>
void bind_typed(py::module_& m, const char* name) {
  agf::bind::bind_leaves<Modular<T>>(m, name).def_property_readonly(
      "dtype", [](const Modular<T>&) { return py::dtype::of<T>(); });
}

// The template is the host's: its transform is made there.
py::object modular(const py::object& object, const std::vector<py::ssize_t>& frequencies, int device) {
  const agf::bind::Template given = agf::bind::template_of(object, frequencies);
  auto made = std::make_shared<const ModularCuda>(device, given.x.data(), given.x.size(), given.frequencies);
  if (given.wide) return py::cast(std::make_unique<Modular<double>>(std::move(made)));
  return py::cast(std::make_unique<Modular<float>>(std::move(made)));
}

}  // namespace

void bind_modular(py::module_& m) {
  bind_typed<double>(m, "ModularF64");
  bind_typed<float>(m, "ModularF32");
  m.def("modular", &modular, py::arg("template"), py::arg("frequencies"), py::arg("device") = 0);
}

}  // namespace agf::cuda::bind
