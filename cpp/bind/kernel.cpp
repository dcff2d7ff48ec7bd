#include "bind/kernel.hpp"

#include "bind/unlocked.hpp"

namespace agf::bind {

namespace py = pybind11;

void bind_kernel(py::module_& m) {
  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const Interrupted&) {
      // The signal handler's exception is set already.
    }
  });

  py::class_<Kernel>(m, "Kernel")
      .def_property_readonly("kappa", [](const Kernel& k) { return k.problem->kappa(); })
      .def_property_readonly("n_params", [](const Kernel& k) { return k.problem->params(); })
      .def_property_readonly("n_samples", [](const Kernel& k) { return k.problem->samples(); })
      .def_property_readonly("n_outputs", [](const Kernel& k) { return k.problem->outputs(); });
}

}  // namespace agf::bind
