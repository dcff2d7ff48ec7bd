#include "bind/dense.hpp"

#include <memory>
#include <string>
#include <utility>

#include "bind/arrays.hpp"
#include "bind/host_call.hpp"
#include "bind/leaves.hpp"
#include "bind/sigma_of.hpp"
#include "cpu/dense.hpp"

namespace agf::bind {

namespace py = pybind11;
using cpu::DenseCpu;

namespace {

template <typename T>
using Dense = DenseLeaves<DenseCpu<T>, T, OnHost>;

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
  bind_dense_leaves<Dense<double>, double>(m, "DenseF64");
  bind_dense_leaves<Dense<float>, float>(m, "DenseF32");
  m.def("dense", &dense, py::arg("X"), py::arg("Y"), py::arg("activation"), py::arg("parameter"));
}

}  // namespace agf::bind
