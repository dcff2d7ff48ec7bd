#include "moments.hpp"

#include <memory>
#include <string>
#include <utility>

#include "bind/kernel.hpp"
#include "bind/moment_data.hpp"
#include "call.hpp"
#include "kernels.hpp"

namespace agf::cuda::bind {

namespace py = pybind11;

namespace {

// work(T{}) for the dtype of theta; what is neither float32 nor float64 is refused where it is read.
template <typename Work>
auto typed(const py::object& theta, const Work& work) {
  const bool single = py::hasattr(theta, "dtype") && std::string(py::str(theta.attr("dtype"))) == "float32";
  return single ? work(float{}) : work(double{});
}

// The leaves. Computes in double and gives arrays of the dtype of theta. The residual is the signal M = -dL/dP.
class MomentKernel final : public agf::bind::Kernel {
 public:
  MomentKernel(std::shared_ptr<const MomentsCuda> moments, std::string blocks)
      : Kernel(moments), moments_(moments.get()), blocks_(std::move(blocks)), at_rest_{moments->device()} {}

  double loss(const py::object& theta) const {
    return typed(theta, [&]<typename T>(T) {
      Call<T> call(moments_->device(), theta);
      const T* at = rows(call, theta, "theta");
      double value = 0;
      call.run([&, count = call.count()] { value = moments_->loss(call.stream(), at, count); });
      return value;
    });
  }

  py::object residual(const py::object& theta) const {
    return typed(theta, [&]<typename T>(T) {
      Call<T> call(moments_->device(), theta);
      const T* at = rows(call, theta, "theta");
      T* r = call.result({high(), wide()});
      call.run([&, count = call.count()] { moments_->residual(call.stream(), at, count, r); });
      return call.take();
    });
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
    return typed(theta, [&]<typename T>(T) {
      Call<T> call(moments_->device(), theta);
      const T* at = rows(call, theta, "theta");
      const std::size_t count = call.count();
      const T* along = rows(call, v, "v", static_cast<py::ssize_t>(count));
      T* out = call.result({static_cast<py::ssize_t>(count), params()});
      call.run([&] { moments_->hessian_vector(call.stream(), at, along, count, out); });
      return call.take();
    });
  }

  py::object hessian(const py::object& theta) const {
    return typed(theta, [&]<typename T>(T) {
      Call<T> call(moments_->device(), theta);
      const T* at = rows(call, theta, "theta");
      const std::size_t count = call.count();
      const py::ssize_t size = static_cast<py::ssize_t>(count) * params();
      T* out = call.result({size, size});
      call.run([&] { moments_->hessian(call.stream(), at, count, out); });
      return call.take();
    });
  }

  py::tuple shape() const { return py::make_tuple(moments_->rows(), moments_->columns()); }

 private:
  py::ssize_t high() const { return static_cast<py::ssize_t>(moments_->rows()); }
  py::ssize_t wide() const { return static_cast<py::ssize_t>(moments_->columns()); }
  py::ssize_t params() const { return static_cast<py::ssize_t>(moments_->params()); }

  template <typename T>
  const T* rows(Call<T>& call, const py::object& object, const char* name, py::ssize_t count = -1) const {
    const std::string height = count < 0 ? "H" : std::to_string(count);
    return call.matrix(object, name, count, params(),
                       "(" + height + ", " + std::to_string(params()) + "): one row " + blocks_ + " per neuron");
  }

  py::object evaluate(const py::object& theta, const py::object& residual, bool with_value, bool with_gradient) const {
    return typed(theta, [&]<typename T>(T) -> py::object {
      Call<T> call(moments_->device(), theta);
      const T* at = rows(call, theta, "theta");
      const std::size_t count = call.count();
      const T* r = residual.is_none() ? nullptr
                                      : call.matrix(residual, "residual", high(), wide(),
                                                    "(" + std::to_string(high()) + ", " + std::to_string(wide()) +
                                                        "): the shape of residual(theta)");
      const auto width = static_cast<py::ssize_t>(count);
      T* value = with_value ? call.result({width}) : nullptr;
      T* gradient = with_gradient ? call.result({width, params()}) : nullptr;
      call.run([&] { moments_->utility(call.stream(), at, count, r, value, gradient); });
      py::object first = call.take();
      if (!(with_value && with_gradient)) return first;
      return py::make_tuple(std::move(first), call.take());
    });
  }

  const MomentsCuda* moments_;
  std::string blocks_;
  AtRest at_rest_;
};

py::object make(const agf::bind::MomentData& data, int device) {
  std::shared_ptr<const MomentsCuda> moments;
  {
    // Released: only our own memory is touched.
    const py::gil_scoped_release release;
    moments = std::make_shared<const MomentsCuda>(device, data.product, data.samples, data.target, data.least);
  }
  return py::cast(std::make_unique<MomentKernel>(std::move(moments), data.blocks));
}

py::object linear_kernel(const py::object& inputs, const py::object& targets, double least, int device) {
  return make(agf::bind::linear_data(inputs, targets, least), device);
}
py::object attention_kernel(const py::object& queries, const py::object& keys, const py::object& targets, double least,
                            int device) {
  return make(agf::bind::attention_data(queries, keys, targets, least), device);
}
py::object attention_samples_kernel(const py::object& features, const py::object& targets, double least, int device) {
  return make(agf::bind::attention_samples_data(features, targets, least), device);
}

}  // namespace

void bind_moments(py::module_& m) {
  py::class_<MomentKernel, agf::bind::Kernel>(m, "MomentKernel")
      .def("loss", &MomentKernel::loss, py::arg("theta"))
      .def("residual", &MomentKernel::residual, py::arg("theta"))
      .def("utility", &MomentKernel::utility, py::arg("theta"), py::arg("residual") = py::none())
      .def("utility_gradient", &MomentKernel::utility_gradient, py::arg("theta"), py::arg("residual") = py::none())
      .def("utility_and_gradient", &MomentKernel::utility_and_gradient, py::arg("theta"),
           py::arg("residual") = py::none())
      .def("hessian_vector", &MomentKernel::hessian_vector, py::arg("theta"), py::arg("v"))
      .def("hessian", &MomentKernel::hessian, py::arg("theta"))
      .def_property_readonly("shape", &MomentKernel::shape);
  m.def("linear_kernel", &linear_kernel, py::arg("inputs"), py::arg("targets"), py::arg("least"),
        py::arg("device") = 0);
  m.def("attention_kernel", &attention_kernel, py::arg("queries"), py::arg("keys"), py::arg("targets"),
        py::arg("least"), py::arg("device") = 0);
  m.def("attention_samples_kernel", &attention_samples_kernel, py::arg("features"), py::arg("targets"),
        py::arg("least"), py::arg("device") = 0);
}

}  // namespace agf::cuda::bind
