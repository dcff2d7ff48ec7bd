#include "dense.hpp"

#include <memory>
#include <string>

#include "bind/kernel.hpp"
#include "bind/sigma_of.hpp"
#include "call.hpp"
#include "kernels.hpp"

namespace agf::cuda::bind {

namespace py = pybind11;

namespace {

template <typename T>
class Dense final : public agf::bind::Kernel {
 public:
  explicit Dense(std::shared_ptr<const DenseCuda<T>> dense)
      : Kernel(dense), dense_(dense.get()), at_rest_{dense->device()} {}

  double loss(const py::object& theta) const {
    Call<T> call(dense_->device(), theta);
    const T* at = rows(call, theta, "theta");
    double value = 0;
    call.run([&, count = call.count()] { value = dense_->loss(call.stream(), at, count); });
    return value;
  }

  py::object residual(const py::object& theta) const {
    Call<T> call(dense_->device(), theta);
    const T* at = rows(call, theta, "theta");
    T* r = call.result({samples(), outputs()});
    call.run([&, count = call.count()] { dense_->residual(call.stream(), at, count, r); });
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
    Call<T> call(dense_->device(), theta);
    const T* at = rows(call, theta, "theta");
    const std::size_t count = call.count();
    const T* along = rows(call, v, "v", static_cast<py::ssize_t>(count));
    T* out = call.result({static_cast<py::ssize_t>(count), params()});
    call.run([&] { dense_->hessian_vector(call.stream(), at, along, count, out); });
    return call.take();
  }

  py::object hessian(const py::object& theta) const {
    Call<T> call(dense_->device(), theta);
    const T* at = rows(call, theta, "theta");
    const std::size_t count = call.count();
    const py::ssize_t size = static_cast<py::ssize_t>(count) * params();
    T* out = call.result({size, size});
    call.run([&] { dense_->hessian(call.stream(), at, count, out); });
    return call.take();
  }

  py::object predict(const py::object& theta, const py::object& x) const {
    Call<T> call(dense_->device(), theta);
    const T* at = rows(call, theta, "theta");
    const std::size_t count = call.count(), d = dense_->inputs();
    const T* data = call.matrix(x, "X_new", -1, static_cast<py::ssize_t>(d),
                                "(k, " + std::to_string(d) + "): one row of inputs per sample");
    const std::size_t k = call.count();
    T* f = call.result({static_cast<py::ssize_t>(k), outputs()});
    call.run([&] { dense_->predict(call.stream(), at, count, data, k, f); });
    return call.take();
  }

  py::ssize_t samples() const { return static_cast<py::ssize_t>(dense_->samples()); }
  py::ssize_t outputs() const { return static_cast<py::ssize_t>(dense_->outputs()); }
  py::ssize_t params() const { return static_cast<py::ssize_t>(dense_->params()); }
  std::size_t inputs() const { return dense_->inputs(); }

 private:
  const T* rows(Call<T>& call, const py::object& object, const char* name, py::ssize_t count = -1) const {
    const std::string height = count < 0 ? "H" : std::to_string(count);
    return call.matrix(object, name, count, params(),
                       "(" + height + ", " + std::to_string(params()) + "): one row [w (" +
                           std::to_string(dense_->inputs()) + ") | a (" + std::to_string(dense_->outputs()) +
                           ")] per neuron");
  }

  py::object evaluate(const py::object& theta, const py::object& residual, bool with_value, bool with_gradient) const {
    Call<T> call(dense_->device(), theta);
    const T* at = rows(call, theta, "theta");
    const std::size_t count = call.count();
    const T* r =
        residual.is_none()
            ? nullptr
            : call.matrix(residual, "residual", samples(), outputs(),
                          "(" + std::to_string(samples()) + ", " + std::to_string(outputs()) + "): the shape of Y");
    const auto width = static_cast<py::ssize_t>(count);
    T* value = with_value ? call.result({width}) : nullptr;
    T* gradient = with_gradient ? call.result({width, params()}) : nullptr;
    call.run([&] { dense_->utility(call.stream(), at, count, r, value, gradient); });
    py::object first = call.take();
    if (!(with_value && with_gradient)) return first;
    return py::make_tuple(std::move(first), call.take());
  }

  const DenseCuda<T>* dense_;
  AtRest at_rest_;
};

template <typename T>
void bind_typed(py::module_& m, const char* name) {
  py::class_<Dense<T>, agf::bind::Kernel>(m, name)
      .def("loss", &Dense<T>::loss, py::arg("theta"))
      .def("residual", &Dense<T>::residual, py::arg("theta"))
      .def("utility", &Dense<T>::utility, py::arg("theta"), py::arg("residual") = py::none())
      .def("utility_gradient", &Dense<T>::utility_gradient, py::arg("theta"), py::arg("residual") = py::none())
      .def("utility_and_gradient", &Dense<T>::utility_and_gradient, py::arg("theta"), py::arg("residual") = py::none())
      .def("hessian_vector", &Dense<T>::hessian_vector, py::arg("theta"), py::arg("v"))
      .def("hessian", &Dense<T>::hessian, py::arg("theta"))
      .def("predict", &Dense<T>::predict, py::arg("theta"), py::arg("X_new"))
      .def_property_readonly("n_inputs", &Dense<T>::inputs)
      .def_property_readonly("dtype", [](const Dense<T>&) { return py::dtype::of<T>(); });
}

template <typename T>
py::object make(const py::object& x, const py::object& y, const std::string& activation, double parameter, int device) {
  const Sigma sigma = agf::bind::sigma_of(activation, parameter);
  Call<T> call(device, x);
  const auto columns = [](const py::object& array, const char* name) {
    const auto shape = py::tuple(array.attr("shape"));
    if (shape.size() != 2 || shape[0].cast<py::ssize_t>() < 1 || shape[1].cast<py::ssize_t>() < 1) {
      throw py::value_error(std::string(name) + ": got shape " + std::string(py::str(shape)) +
                            ", expected two lengths of at least 1");
    }
    return shape[1].cast<py::ssize_t>();
  };
  const py::ssize_t d = columns(x, "X"), c = columns(y, "Y");
  const T* inputs = call.matrix(x, "X", -1, d, "(n, d)");
  const std::size_t n = call.count();
  const T* targets =
      call.matrix(y, "Y", static_cast<py::ssize_t>(n), c, "(" + std::to_string(n) + ", c): one row per row of X");
  std::shared_ptr<const DenseCuda<T>> dense;
  call.run([&] {
    dense = std::make_shared<const DenseCuda<T>>(device, call.lasting(), inputs, n, static_cast<std::size_t>(d),
                                                 targets, static_cast<std::size_t>(c), false, sigma, parameter);
  });
  return py::cast(std::make_unique<Dense<T>>(std::move(dense)));
}

py::object dense(const py::object& x, const py::object& y, const std::string& activation, double parameter,
                 int device) {
  const auto dtype = py::str(x.attr("dtype")).cast<std::string>();
  if (dtype == "float64") return make<double>(x, y, activation, parameter, device);
  if (dtype == "float32") return make<float>(x, y, activation, parameter, device);
  throw py::type_error("X: got dtype " + dtype + ", expected float32 or float64");
}

}  // namespace

void bind_dense(py::module_& m) {
  bind_typed<double>(m, "DenseF64");
  bind_typed<float>(m, "DenseF32");
  m.def("dense", &dense, py::arg("X"), py::arg("Y"), py::arg("activation"), py::arg("parameter"),
        py::arg("device") = 0);
}

}  // namespace agf::cuda::bind
