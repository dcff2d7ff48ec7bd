#include "bind/dense.hpp"

#include <string>
#include <vector>

#include "bind/arrays.hpp"
#include "bind/kernel.hpp"
#include "bind/sigma_of.hpp"
#include "bind/unlocked.hpp"
#include "cpu/dense.hpp"

namespace agf::bind {

namespace py = pybind11;
using cpu::DenseCpu;

namespace {

template <typename T>
class Dense final : public Kernel {
 public:
  using Array = py::array_t<T, py::array::c_style>;

  explicit Dense(std::shared_ptr<const DenseCpu<T>> dense) : Kernel(dense), dense_(dense.get()) {}

  double loss(const py::object& theta) const {
    const Rows at = rows(theta, "theta");
    // Released: a pass over all samples can take seconds, and only our own memory and a held array are touched.
    const Unlocked unlocked;
    return dense_->loss(at.data, at.count);
  }

  Array residual(const py::object& theta) const {
    const Rows at = rows(theta, "theta");
    Array r({samples(), outputs()});
    T* to = r.mutable_data();
    // Released: see loss.
    const Unlocked unlocked;
    dense_->residual(at.data, at.count, to);
    return r;
  }

  Array utility(const py::object& theta, const py::object& residual) const {
    const Rows at = rows(theta, "theta");
    const Residual r = residual_of(at, residual);
    Array value(static_cast<py::ssize_t>(at.count));
    evaluate(at, r, value.mutable_data(), nullptr);
    return value;
  }

  Array utility_gradient(const py::object& theta, const py::object& residual) const {
    const Rows at = rows(theta, "theta");
    const Residual r = residual_of(at, residual);
    Array gradient({static_cast<py::ssize_t>(at.count), params()});
    evaluate(at, r, nullptr, gradient.mutable_data());
    return gradient;
  }

  py::tuple utility_and_gradient(const py::object& theta, const py::object& residual) const {
    const Rows at = rows(theta, "theta");
    const Residual r = residual_of(at, residual);
    Array value(static_cast<py::ssize_t>(at.count));
    Array gradient({static_cast<py::ssize_t>(at.count), params()});
    evaluate(at, r, value.mutable_data(), gradient.mutable_data());
    return py::make_tuple(std::move(value), std::move(gradient));
  }

  Array hessian_vector(const py::object& theta, const py::object& v) const {
    const Rows at = rows(theta, "theta");
    const Rows along = rows(v, "v", static_cast<py::ssize_t>(at.count));
    Array out({static_cast<py::ssize_t>(at.count), params()});
    T* to = out.mutable_data();
    // Released: see loss.
    const Unlocked unlocked;
    dense_->hessian_vector(at.data, along.data, at.count, to);
    return out;
  }

  Array hessian(const py::object& theta) const {
    const Rows at = rows(theta, "theta");
    const py::ssize_t size = static_cast<py::ssize_t>(at.count) * params();
    Array out({size, size});
    T* to = out.mutable_data();
    // Released: see loss.
    const Unlocked unlocked;
    dense_->hessian(at.data, at.count, to);
    return out;
  }

  Array predict(const py::object& theta, const py::object& x) const {
    const Rows at = rows(theta, "theta");
    const py::array held = as_array(x, "X_new");
    const T* data = matrix<T>(held, "X_new", -1, static_cast<py::ssize_t>(dense_->inputs()),
                              "(k, " + std::to_string(dense_->inputs()) + "): one row of inputs per sample");
    Array f({held.shape(0), outputs()});
    T* to = f.mutable_data();
    const auto k = static_cast<std::size_t>(held.shape(0));
    // Released: see loss.
    const Unlocked unlocked;
    dense_->predict(at.data, at.count, data, k, to);
    return f;
  }

  py::ssize_t samples() const { return static_cast<py::ssize_t>(dense_->samples()); }
  py::ssize_t outputs() const { return static_cast<py::ssize_t>(dense_->outputs()); }
  py::ssize_t params() const { return static_cast<py::ssize_t>(dense_->params()); }
  std::size_t inputs() const { return dense_->inputs(); }

 private:
  struct Rows {
    py::array held;
    const T* data;
    std::size_t count;
  };
  struct Residual {
    py::object held;
    const T* data;  // null: of all rows
  };

  Rows rows(const py::object& object, const char* name, py::ssize_t count = -1) const {
    py::array a = as_array(object, name);
    const std::string m = std::to_string(dense_->params());
    const std::string blocks =
        "[w (" + std::to_string(dense_->inputs()) + ") | a (" + std::to_string(dense_->outputs()) + ")]";
    const std::string height = count < 0 ? "H" : std::to_string(count);
    const T* data =
        matrix<T>(a, name, count, params(), "(" + height + ", " + m + "): one row " + blocks + " per neuron");
    const auto h = static_cast<std::size_t>(a.shape(0));
    return {std::move(a), data, h};
  }

  Residual residual_of(const Rows& at, const py::object& residual) const {
    static_cast<void>(at);
    if (residual.is_none()) return {py::none(), nullptr};
    const py::array a = as_array(residual, "residual");
    const T* data = matrix<T>(a, "residual", samples(), outputs(),
                              "(" + std::to_string(samples()) + ", " + std::to_string(outputs()) + "): the shape of Y");
    return {a, data};
  }

  void evaluate(const Rows& at, const Residual& r, T* value, T* gradient) const {
    // Released: see loss.
    const Unlocked unlocked;
    dense_->utility(at.data, at.count, r.data, value, gradient);
  }

  const DenseCpu<T>* dense_;
};

template <typename T>
void bind_typed(py::module_& m, const char* name) {
  py::class_<Dense<T>, Kernel>(m, name)
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
py::object make(const py::array& x, const py::array& y, Sigma sigma, double parameter) {
  if (x.ndim() != 2 || x.shape(0) < 1 || x.shape(1) < 1) {
    throw py::value_error("X: got shape " + shape_text(x) + ", expected (n, d) with n and d at least 1");
  }
  if (y.ndim() != 2 || y.shape(1) < 1) {
    throw py::value_error("Y: got shape " + shape_text(y) + ", expected (" + std::to_string(x.shape(0)) +
                          ", c) with c at least 1");
  }
  const T* inputs = matrix<T>(x, "X", -1, x.shape(1), "(n, d)");
  const T* targets =
      matrix<T>(y, "Y", x.shape(0), y.shape(1), "(" + std::to_string(x.shape(0)) + ", c): one row per row of X");
  auto dense = std::make_shared<const DenseCpu<T>>(inputs, static_cast<std::size_t>(x.shape(0)),
                                                   static_cast<std::size_t>(x.shape(1)), targets,
                                                   static_cast<std::size_t>(y.shape(1)), sigma, parameter);
  return py::cast(std::make_unique<Dense<T>>(std::move(dense)));
}

py::object dense(const py::object& x_object, const py::object& y_object, const std::string& activation,
                 double parameter) {
  const Sigma sigma = sigma_of(activation, parameter);
  const py::array x = as_array(x_object, "X"), y = as_array(y_object, "Y");
  if (holds<double>(x)) return make<double>(x, y, sigma, parameter);
  if (holds<float>(x)) return make<float>(x, y, sigma, parameter);
  throw py::type_error("X: got dtype " + std::string(py::str(x.dtype())) + ", expected float32 or float64");
}

}  // namespace

void bind_dense(py::module_& m) {
  bind_typed<double>(m, "DenseF64");
  bind_typed<float>(m, "DenseF32");
  m.def("dense", &dense, py::arg("X"), py::arg("Y"), py::arg("activation"), py::arg("parameter"));
}

}  // namespace agf::bind
