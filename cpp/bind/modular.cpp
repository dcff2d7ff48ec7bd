#include "bind/modular.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "bind/arrays.hpp"
#include "bind/kernel.hpp"
#include "bind/template_of.hpp"
#include "bind/unlocked.hpp"
#include "cpu/modular.hpp"

namespace agf::bind {
namespace {

namespace py = pybind11;
using cpu::ModularCpu;

// Arrays of T outside, double inside.
template <typename T>
class Modular final : public Kernel {
 public:
  using Array = py::array_t<T, py::array::c_style>;

  explicit Modular(std::shared_ptr<const ModularCpu> modular) : Kernel(modular), modular_(modular.get()) {}

  double loss(const py::object& theta) const {
    const Rows at = rows(theta, "theta");
    const auto r = modular_->make_signal();
    // Released: a pass over all pairs can take seconds, and only our own memory is touched.
    const Unlocked unlocked;
    return modular_->residual(at.values.data(), at.count, *r);
  }

  Array residual(const py::object& theta) const {
    const Rows at = rows(theta, "theta");
    Array out({pairs(), outputs()});
    std::vector<double> values(static_cast<std::size_t>(out.size()));
    const auto r = modular_->make_signal();
    {
      // Released: see loss.
      const Unlocked unlocked;
      modular_->residual(at.values.data(), at.count, *r);
      modular_->spread(*r, values.data());
    }
    std::copy(values.begin(), values.end(), out.mutable_data());
    return out;
  }

  Array utility(const py::object& theta, const py::object& residual) const {
    return evaluate(theta, residual, true, false).first;
  }
  Array utility_gradient(const py::object& theta, const py::object& residual) const {
    return evaluate(theta, residual, false, true).second;
  }
  py::tuple utility_and_gradient(const py::object& theta, const py::object& residual) const {
    auto [value, gradient] = evaluate(theta, residual, true, true);
    return py::make_tuple(std::move(value), std::move(gradient));
  }

  Array hessian_vector(const py::object& theta, const py::object& v) const {
    const Rows at = rows(theta, "theta");
    const Rows along = rows(v, "v", static_cast<py::ssize_t>(at.count));
    std::vector<double> out(at.values.size());
    const auto r = modular_->make_signal(), dr = modular_->make_signal();
    {
      // Released: see loss.
      const Unlocked unlocked;
      modular_->residual(at.values.data(), at.count, *r);
      modular_->residual_derivative(at.values.data(), along.values.data(), at.count, *dr);
      modular_->curvature_vector(at.values.data(), along.values.data(), at.count, *r, dr.get(), out.data());
      for (double& e : out) e = -e;
    }
    return array(out, {static_cast<py::ssize_t>(at.count), params()});
  }

  Array hessian(const py::object& theta) const {
    const Rows at = rows(theta, "theta");
    const py::ssize_t size = static_cast<py::ssize_t>(at.count) * params();
    std::vector<double> out(static_cast<std::size_t>(size * size));
    const auto r = modular_->make_signal();
    {
      // Released: see loss.
      const Unlocked unlocked;
      modular_->residual(at.values.data(), at.count, *r);
      modular_->loss_hessian(at.values.data(), at.count, *r, out.data());
    }
    return array(out, {size, size});
  }

 private:
  struct Rows {
    std::vector<double> values;
    std::size_t count;
  };

  py::ssize_t outputs() const { return static_cast<py::ssize_t>(modular_->period()); }
  py::ssize_t pairs() const { return static_cast<py::ssize_t>(modular_->samples()); }
  py::ssize_t params() const { return static_cast<py::ssize_t>(modular_->params()); }

  static Array array(const std::vector<double>& values, std::vector<py::ssize_t> shape) {
    Array out(std::move(shape));
    T* to = out.mutable_data();
    for (std::size_t i = 0; i < values.size(); ++i) to[i] = static_cast<T>(values[i]);
    return out;
  }

  Rows rows(const py::object& object, const char* name, py::ssize_t count = -1) const {
    const py::array a = as_array(object, name);
    const T* data = matrix<T>(a, name, count, params(), rows_of_modular(modular_->period(), count));
    return {std::vector<double>(data, data + a.size()), static_cast<std::size_t>(a.shape(0))};
  }

  std::pair<Array, Array> evaluate(const py::object& theta, const py::object& residual, bool with_value,
                                   bool with_gradient) const {
    const Rows at = rows(theta, "theta");
    const auto r = modular_->make_signal();
    std::vector<double> given;
    if (!residual.is_none()) {
      const py::array a = as_array(residual, "residual");
      const T* data = matrix<T>(a, "residual", pairs(), outputs(), residual_of_modular(modular_->period()));
      given.assign(data, data + a.size());
    }
    std::vector<double> value(with_value ? at.count : 0), gradient(with_gradient ? at.values.size() : 0);
    {
      // Released: see loss.
      const Unlocked unlocked;
      if (given.empty()) {
        modular_->residual(at.values.data(), at.count, *r);
      } else {
        modular_->gather(given.data(), *r);
      }
      modular_->utility(at.values.data(), at.count, *r, with_value ? value.data() : nullptr,
                        with_gradient ? gradient.data() : nullptr);
    }
    const auto count = static_cast<py::ssize_t>(at.count);
    return {array(value, {with_value ? count : 0}), array(gradient, {with_gradient ? count : 0, params()})};
  }

  const ModularCpu* modular_;
};

template <typename T>
void bind_typed(py::module_& m, const char* name) {
  py::class_<Modular<T>, Kernel>(m, name)
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
