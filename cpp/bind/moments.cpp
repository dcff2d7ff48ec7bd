#include "bind/moments.hpp"

#include <pybind11/numpy.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "bind/arrays.hpp"
#include "bind/kernel.hpp"
#include "bind/unlocked.hpp"
#include "cpu/moments.hpp"

namespace agf::bind {
namespace {

namespace py = pybind11;
using cpu::Design;
using cpu::Moments;
using cpu::Product;

// The data of a float32 or float64 array with two axes, in double.
struct Values {
  py::array held;
  std::vector<double> copy;
  const double* data;
  bool single;
};

Values values(const py::object& object, const char* name, py::ssize_t rows, py::ssize_t columns,
              const std::string& expected) {
  py::array a = as_array(object, name);
  if (!holds<float>(a)) {
    const double* data = matrix<double>(a, name, rows, columns, expected);
    return {std::move(a), {}, data, false};
  }
  const float* data = matrix<float>(a, name, rows, columns, expected);
  Values out{{}, std::vector<double>(data, data + a.size()), nullptr, true};
  out.data = out.copy.data();
  return out;
}

// `_core.MomentKernel`: the leaves. Computes in double and gives arrays of the dtype of theta. The residual is the
// signal M = -dL/dP.
class MomentKernel final : public Kernel {
 public:
  using Array = py::array_t<double, py::array::c_style>;

  MomentKernel(std::shared_ptr<const Moments> moments, std::string blocks)
      : Kernel(moments), moments_(moments.get()), blocks_(std::move(blocks)) {}

  double loss(const py::object& theta) const {
    const Rows at = rows(theta, "theta");
    const auto signal = moments_->make_signal();
    // Released: only our own memory and a held array are touched.
    const Unlocked unlocked;
    return moments_->residual(at.data(), at.count, *signal);
  }

  py::object residual(const py::object& theta) const {
    const Rows at = rows(theta, "theta");
    Array out({as_size(moments_->rows()), as_size(moments_->columns())});
    double* to = out.mutable_data();
    {
      // Released: see loss.
      const Unlocked unlocked;
      const auto signal = signal_of(at, nullptr);
      std::copy_n(Moments::values(*signal), moments_->rows() * moments_->columns(), to);
    }
    return give(std::move(out), at);
  }

  py::object utility(const py::object& theta, const py::object& residual) const {
    const Rows at = rows(theta, "theta");
    Array value(as_size(at.count));
    evaluate(at, residual, value.mutable_data(), nullptr);
    return give(std::move(value), at);
  }

  py::object utility_gradient(const py::object& theta, const py::object& residual) const {
    const Rows at = rows(theta, "theta");
    Array gradient({as_size(at.count), params()});
    evaluate(at, residual, nullptr, gradient.mutable_data());
    return give(std::move(gradient), at);
  }

  py::tuple utility_and_gradient(const py::object& theta, const py::object& residual) const {
    const Rows at = rows(theta, "theta");
    Array value(as_size(at.count));
    Array gradient({as_size(at.count), params()});
    evaluate(at, residual, value.mutable_data(), gradient.mutable_data());
    return py::make_tuple(give(std::move(value), at), give(std::move(gradient), at));
  }

  py::object hessian_vector(const py::object& theta, const py::object& v) const {
    const Rows at = rows(theta, "theta");
    const Rows along = rows(v, "v", as_size(at.count));
    Array out({as_size(at.count), params()});
    double* to = out.mutable_data();
    {
      // Released: see loss.
      const Unlocked unlocked;
      const auto r = signal_of(at, nullptr);
      const auto dr = moments_->make_signal();
      moments_->residual_derivative(at.data(), along.data(), at.count, *dr);
      moments_->curvature_vector(at.data(), along.data(), at.count, *r, dr.get(), to);
      for (std::size_t e = 0; e < at.count * moments_->params(); ++e) to[e] = -to[e];
    }
    return give(std::move(out), at);
  }

  py::object hessian(const py::object& theta) const {
    const Rows at = rows(theta, "theta");
    const py::ssize_t size = as_size(at.count) * params();
    Array out({size, size});
    double* to = out.mutable_data();
    {
      // Released: see loss.
      const Unlocked unlocked;
      const auto r = signal_of(at, nullptr);
      moments_->loss_hessian(at.data(), at.count, *r, to);
    }
    return give(std::move(out), at);
  }

  py::tuple shape() const { return py::make_tuple(moments_->rows(), moments_->columns()); }

 private:
  struct Rows {
    Values values;
    std::size_t count;
    const double* data() const { return values.data; }
  };

  static py::ssize_t as_size(std::size_t size) { return static_cast<py::ssize_t>(size); }
  static py::object give(Array array, const Rows& like) {
    return like.values.single ? array.attr("astype")("float32") : py::object(std::move(array));
  }
  py::ssize_t params() const { return as_size(moments_->params()); }

  Rows rows(const py::object& object, const char* name, py::ssize_t count = -1) const {
    const std::string height = count < 0 ? "H" : std::to_string(count);
    Values v = values(object, name, count, params(),
                      "(" + height + ", " + std::to_string(params()) + "): one row " + blocks_ + " per neuron");
    const std::size_t size = v.single ? v.copy.size() : static_cast<std::size_t>(v.held.size());
    return {std::move(v), size / moments_->params()};
  }

  // The given signal, or that of the rows themselves.
  std::unique_ptr<Signal> signal_of(const Rows& at, const double* given) const {
    auto signal = moments_->make_signal();
    if (given) {
      std::copy_n(given, moments_->rows() * moments_->columns(), Moments::values(*signal));
    } else {
      moments_->residual(at.data(), at.count, *signal);
    }
    return signal;
  }

  void evaluate(const Rows& at, const py::object& residual, double* value, double* gradient) const {
    Values given{{}, {}, nullptr, false};
    if (!residual.is_none()) {
      const std::string wide = std::to_string(moments_->columns());
      given = values(residual, "residual", as_size(moments_->rows()), as_size(moments_->columns()),
                     "(" + std::to_string(moments_->rows()) + ", " + wide + "): the shape of residual(theta)");
    }
    // Released: see loss.
    const Unlocked unlocked;
    const auto signal = signal_of(at, given.data);
    moments_->utility(at.data(), at.count, *signal, value, gradient);
  }

  const Moments* moments_;
  std::string blocks_;
};

struct Matrix {
  std::vector<double> values;
  std::size_t rows, columns;
};

Matrix read(const py::object& object, const char* name, py::ssize_t rows, py::ssize_t columns) {
  const py::array a = as_array(object, name);
  if (a.ndim() != 2 || a.shape(1) < 1) {
    throw py::value_error(std::string(name) + ": got shape " + shape_text(a) + ", expected two axes, none empty");
  }
  const std::string height = rows < 0 ? "k" : std::to_string(rows);
  const std::string width = columns < 0 ? "any" : std::to_string(columns);
  const double* data =
      matrix<double>(a, name, rows, columns < 0 ? a.shape(1) : columns, "(" + height + ", " + width + ")");
  return {std::vector<double>(data, data + a.size()), static_cast<std::size_t>(a.shape(0)),
          static_cast<std::size_t>(a.shape(1))};
}

py::object make(Product product, std::unique_ptr<const Design> design, std::vector<double> target, double least,
                std::string blocks) {
  auto moments = std::make_shared<const Moments>(product, std::move(design), std::move(target), least);
  return py::cast(std::make_unique<MomentKernel>(std::move(moments), std::move(blocks)));
}

// L = least + 1/2 |targets - inputs P^T|^2, P = sum_i a_i w_i^T; inputs (k, d), targets (k, c).
py::object linear_kernel(const py::object& inputs, const py::object& targets, double least) {
  const Matrix x = read(inputs, "inputs", -1, -1);
  const Matrix y = read(targets, "targets", static_cast<py::ssize_t>(x.rows), -1);
  // One row of residuals per output: the grid of outputs and inputs.
  std::vector<double> target(y.values.size());
  for (std::size_t i = 0; i < y.rows; ++i)
    for (std::size_t j = 0; j < y.columns; ++j) target[j * y.rows + i] = y.values[i * y.columns + j];
  return make(Product::bilinear(x.columns, y.columns), cpu::grid_design(y.columns, x.columns, {}, x.values),
              std::move(target), least,
              "[w (" + std::to_string(x.columns) + ") | a (" + std::to_string(y.columns) + ")]");
}

std::string head(std::size_t dimension) {
  const std::string size = std::to_string(dimension);
  return "[v | q (" + size + ") | k (" + size + ")]";
}

// L = least + 1/2 |targets - queries P keys^T|^2, P = sum_i v_i q_i k_i^T; queries (a, D), keys (b, D), targets (a, b).
py::object attention_kernel(const py::object& queries, const py::object& keys, const py::object& targets,
                            double least) {
  const Matrix q = read(queries, "queries", -1, -1);
  const Matrix k = read(keys, "keys", -1, static_cast<py::ssize_t>(q.columns));
  Matrix y = read(targets, "targets", static_cast<py::ssize_t>(q.rows), static_cast<py::ssize_t>(k.rows));
  return make(Product::trilinear(q.columns), cpu::grid_design(q.columns, q.columns, q.values, k.values),
              std::move(y.values), least, head(q.columns));
}

// L = least + 1/2 |targets - features vec(P)|^2; features (k, D^2), targets (k, 1).
py::object attention_samples_kernel(const py::object& features, const py::object& targets, double least) {
  const Matrix x = read(features, "features", -1, -1);
  Matrix y = read(targets, "targets", static_cast<py::ssize_t>(x.rows), 1);
  std::size_t dimension = 1;
  while (dimension * dimension < x.columns) ++dimension;
  if (dimension * dimension != x.columns) {
    throw py::value_error("features: got " + std::to_string(x.columns) + " columns, expected a square, D * D");
  }
  return make(Product::trilinear(dimension), cpu::list_design(dimension, dimension, x.values), std::move(y.values),
              least, head(dimension));
}

}  // namespace

void bind_moments(py::module_& m) {
  py::class_<MomentKernel, Kernel>(m, "MomentKernel")
      .def("loss", &MomentKernel::loss, py::arg("theta"))
      .def("residual", &MomentKernel::residual, py::arg("theta"))
      .def("utility", &MomentKernel::utility, py::arg("theta"), py::arg("residual") = py::none())
      .def("utility_gradient", &MomentKernel::utility_gradient, py::arg("theta"), py::arg("residual") = py::none())
      .def("utility_and_gradient", &MomentKernel::utility_and_gradient, py::arg("theta"),
           py::arg("residual") = py::none())
      .def("hessian_vector", &MomentKernel::hessian_vector, py::arg("theta"), py::arg("v"))
      .def("hessian", &MomentKernel::hessian, py::arg("theta"))
      .def_property_readonly("shape", &MomentKernel::shape);
  m.def("linear_kernel", &linear_kernel, py::arg("inputs"), py::arg("targets"), py::arg("least"));
  m.def("attention_kernel", &attention_kernel, py::arg("queries"), py::arg("keys"), py::arg("targets"),
        py::arg("least"));
  m.def("attention_samples_kernel", &attention_samples_kernel, py::arg("features"), py::arg("targets"),
        py::arg("least"));
}

}  // namespace agf::bind
