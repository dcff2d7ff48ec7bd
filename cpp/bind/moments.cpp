#include "bind/moments.hpp"

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <utility>

#include "bind/host_call.hpp"
#include "bind/in_double.hpp"
#include "bind/leaves.hpp"
#include "bind/moment_data.hpp"
#include "cpu/moments.hpp"

namespace agf::bind {
namespace {

namespace py = pybind11;
using cpu::Moments;

// `_core.MomentKernel`. Computes in double and gives arrays of the dtype of theta. The residual is the signal
// M = -dL/dP.
class MomentKernel final : public Leaves<InDouble<Moments>, Either, OnHost> {
 public:
  MomentKernel(std::shared_ptr<const Moments> moments, std::string blocks)
      : Leaves(moments, std::make_shared<const InDouble<Moments>>(moments, moments->rows() * moments->columns()),
               {std::move(blocks), moments->rows(), moments->columns(), "the shape of residual(theta)"}) {}

  py::tuple shape() const { return py::make_tuple(on().problem().rows(), on().problem().columns()); }
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
  bind_leaves<MomentKernel>(m, "MomentKernel").def_property_readonly("shape", &MomentKernel::shape);
  m.def("linear_kernel", &linear_kernel, py::arg("inputs"), py::arg("targets"), py::arg("least"));
  m.def("attention_kernel", &attention_kernel, py::arg("queries"), py::arg("keys"), py::arg("targets"),
        py::arg("least"));
  m.def("attention_samples_kernel", &attention_samples_kernel, py::arg("features"), py::arg("targets"),
        py::arg("least"));
}

}  // namespace agf::bind
