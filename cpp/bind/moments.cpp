#include "bind/moments.hpp"

#include <pybind11/numpy.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "bind/arrays.hpp"
#include "bind/kernel.hpp"
#include "bind/moment_data.hpp"
#include "bind/unlocked.hpp"
#include "cpu/moments.hpp"

namespace agf::bind {
namespace {

namespace py = pybind11;
using cpu::Moments;

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

py::object make(MomentData data) {
  auto moments =
      std::make_shared<const Moments>(data.product, std::move(data.samples), std::move(data.target), data.least);
  return py::cast(std::make_unique<MomentKernel>(std::move(moments), std::move(data.blocks)));
}

py::object linear_kernel(const py::object& inputs, const py::object& targets, double least) {
  return make(linear_data(inputs, targets, least));
}
py::object attention_kernel(const py::object& queries, const py::object& keys, const py::object& targets,
                            double least) {
  return make(attention_data(queries, keys, targets, least));
}
py::object attention_samples_kernel(const py::object& features, const py::object& targets, double least) {
  return make(attention_samples_data(features, targets, least));
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
