#include "modular.hpp"

#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bind/kernel.hpp"
#include "bind/template_of.hpp"
#include "call.hpp"
#include "kernels.hpp"

namespace agf::cuda::bind {

namespace py = pybind11;

namespace {

// Arrays of T outside, double inside.
template <typename T>
class Modular final : public agf::bind::Kernel {
 public:
  explicit Modular(std::shared_ptr<const ModularCuda> modular)
      : Kernel(modular), modular_(modular.get()), at_rest_{modular->device()} {}

  double loss(const py::object& theta) const {
    Call<T> call(modular_->device(), theta);
    const T* at = rows(call, theta, "theta");
    double value = 0;
    call.run([&, count = call.count()] { value = modular_->loss(call.stream(), at, count); });
    return value;
  }

  py::object residual(const py::object& theta) const {
    Call<T> call(modular_->device(), theta);
    const T* at = rows(call, theta, "theta");
    T* r = call.result({pairs(), outputs()});
    call.run([&, count = call.count()] { modular_->residual(call.stream(), at, count, r); });
    return call.take();
  }

  py::object utility(const py::object& theta, const py::object& residual) const {
    return evaluate(theta, residual, true, false);
  }
  py::object utility_gradient(const py::object& theta, const py::object& residual) const {
    return evaluate(theta, residual, false, true);
  }
  py::object utility_and_gradient(const py::object& theta, const py::object& residual) const {
    return evaluate(theta, residual, true, true);
  }

  py::object hessian_vector(const py::object& theta, const py::object& v) const {
    Call<T> call(modular_->device(), theta);
    const T* at = rows(call, theta, "theta");
    const std::size_t count = call.count();
    const T* along = rows(call, v, "v", static_cast<py::ssize_t>(count));
    T* out = call.result({static_cast<py::ssize_t>(count), params()});
    call.run([&] { modular_->hessian_vector(call.stream(), at, along, count, out); });
    return call.take();
  }

  py::object hessian(const py::object& theta) const {
    Call<T> call(modular_->device(), theta);
    const T* at = rows(call, theta, "theta");
    const std::size_t count = call.count();
    const py::ssize_t size = static_cast<py::ssize_t>(count) * params();
    T* out = call.result({size, size});
    call.run([&] { modular_->hessian(call.stream(), at, count, out); });
    return call.take();
  }

 private:
  py::ssize_t outputs() const { return static_cast<py::ssize_t>(modular_->period()); }
  py::ssize_t pairs() const { return static_cast<py::ssize_t>(modular_->samples()); }
  py::ssize_t params() const { return static_cast<py::ssize_t>(modular_->params()); }

  const T* rows(Call<T>& call, const py::object& object, const char* name, py::ssize_t count = -1) const {
    return call.matrix(object, name, count, params(), agf::bind::rows_of_modular(modular_->period(), count));
  }

  py::object evaluate(const py::object& theta, const py::object& residual, bool with_value, bool with_gradient) const {
    Call<T> call(modular_->device(), theta);
    const T* at = rows(call, theta, "theta");
    const std::size_t count = call.count();
    const T* r = residual.is_none() ? nullptr
                                    : call.matrix(residual, "residual", pairs(), outputs(),
                                                  agf::bind::residual_of_modular(modular_->period()));
    const auto width = static_cast<py::ssize_t>(count);
    T* value = with_value ? call.result({width}) : nullptr;
    T* gradient = with_gradient ? call.result({width, params()}) : nullptr;
    call.run([&] { modular_->utility(call.stream(), at, count, r, value, gradient); });
    py::object first = call.take();
    if (!(with_value && with_gradient)) return first;
    return py::make_tuple(std::move(first), call.take());
  }

  const ModularCuda* modular_;
  AtRest at_rest_;
};

template <typename T>
void bind_typed(py::module_& m, const char* name) {
  py::class_<Modular<T>, agf::bind::Kernel>(m, name)
      .def("loss", &Modular<T>::loss, py::arg("theta"))
      .def("residual", &Modular<T>::residual, py::arg("theta"))
      .def("utility", &Modular<T>::utility, py::arg("theta"), py::arg("residual") = py::none())
      .def("utility_gradient", &Modular<T>::utility_gradient, py::arg("theta"), py::arg("residual") = py::none())
      .def("utility_and_gradient", &Modular<T>::utility_and_gradient, py::arg("theta"),
           py::arg("residual") = py::none())
      .def("hessian_vector", &Modular<T>::hessian_vector, py::arg("theta"), py::arg("v"))
      .def("hessian", &Modular<T>::hessian, py::arg("theta"))
      .def_property_readonly("dtype", [](const Modular<T>&) { return py::dtype::of<T>(); });
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
