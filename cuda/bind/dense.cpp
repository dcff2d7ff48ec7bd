#include "dense.hpp"

#include <memory>
#include <string>

#include "bind/leaves.hpp"
#include "bind/sigma_of.hpp"
#include "call.hpp"
#include "kernels.hpp"

namespace agf::cuda::bind {

namespace py = pybind11;

namespace {

template <typename T>
using Dense = agf::bind::DenseLeaves<DenseCuda<T>, T, AtRest>;

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
  agf::bind::bind_dense_leaves<Dense<double>, double>(m, "DenseF64");
  agf::bind::bind_dense_leaves<Dense<float>, float>(m, "DenseF32");
  m.def("dense", &dense, py::arg("X"), py::arg("Y"), py::arg("activation"), py::arg("parameter"),
        py::arg("device") = 0);
}

}  // namespace agf::cuda::bind
