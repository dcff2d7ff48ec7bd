#include "moments.hpp"

#include <memory>
#include <string>
#include <utility>

#include "bind/leaves.hpp"
#include "bind/moment_data.hpp"
#include "call.hpp"
#include "kernels.hpp"

namespace agf::cuda::bind {

namespace py = pybind11;

namespace {

// Computes in double and gives arrays of the dtype of theta. The residual is the signal M = -dL/dP.
class MomentKernel final : public agf::bind::Leaves<MomentsCuda, agf::bind::Either, AtRest> {
 public:
  MomentKernel(std::shared_ptr<const MomentsCuda> moments, std::string blocks)
      : Leaves(moments, moments,
               {std::move(blocks), moments->rows(), moments->columns(), "the shape of residual(theta)"}) {}

  py::tuple shape() const { return py::make_tuple(on().rows(), on().columns()); }
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
  agf::bind::bind_leaves<MomentKernel>(m, "MomentKernel").def_property_readonly("shape", &MomentKernel::shape);
  m.def("linear_kernel", &linear_kernel, py::arg("inputs"), py::arg("targets"), py::arg("least"),
        py::arg("device") = 0);
  m.def("attention_kernel", &attention_kernel, py::arg("queries"), py::arg("keys"), py::arg("targets"),
        py::arg("least"), py::arg("device") = 0);
  m.def("attention_samples_kernel", &attention_samples_kernel, py::arg("features"), py::arg("targets"),
        py::arg("least"), py::arg("device") = 0);
}

}  // namespace agf::cuda::bind
