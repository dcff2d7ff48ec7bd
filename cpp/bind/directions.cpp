#include "bind/directions.hpp"

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "agf/direction_alternate.hpp"
#include "agf/direction_flow.hpp"
#include "bind/kernel.hpp"
#include "bind/session.hpp"
#include "cpu/backend.hpp"

namespace py = pybind11;

namespace agf::bind {

namespace {

py::dict run_alternating(const Kernel& kernel, const py::dict& start, int max_jumps, double loss_tol,
                         double activation_window, bool adaptive_rate, double active_time, double rtol,
                         double max_seconds, const py::object& observer) {
  const State state = state_from(start, kernel.problem->params());
  Session session(max_seconds, observer);
  AlternateOptions options{max_jumps, loss_tol, activation_window, adaptive_rate, active_time, rtol, {}};
  if (session.has_observer())
    options.observer = [&](const Jump& jump) { return session.observe([&]() { return to_dict(jump); }); };
  return run(session,
             [&]() { return alternate_directions(*kernel.problem, cpu::backend(), session.control, state, options); });
}

py::dict run_flow(const Kernel& kernel, const py::dict& start, double t_end, const std::string& clock,
                  const py::object& save_at, double loss_tol, double rtol, double max_seconds,
                  const py::object& observer, bool adaptive_rate) {
  const State state = state_from(start, kernel.problem->params());
  Session session(max_seconds, observer);
  const FlowOptions options = flow_options(session, t_end, clock, save_at, loss_tol, rtol, adaptive_rate);
  return run(session, [&]() {
    return gradient_flow_of_directions(*kernel.problem, cpu::backend(), session.control, state, options);
  });
}

}  // namespace

void bind_directions(py::module_& module) {
  module.def("directions_alternating_gradient_flow", &run_alternating, py::arg("kernel"), py::arg("start"),
             py::kw_only(), py::arg("max_jumps"), py::arg("loss_tol"), py::arg("activation_window"),
             py::arg("adaptive_rate"), py::arg("active_time"), py::arg("rtol"), py::arg("max_seconds"),
             py::arg("observer"), "Algorithm 1 by directions of the neuron space; see agf_fast.Linear.");
  module.def("directions_gradient_flow", &run_flow, py::arg("kernel"), py::arg("start"), py::arg("t_end"),
             py::kw_only(), py::arg("clock"), py::arg("save_at"), py::arg("loss_tol"), py::arg("rtol"),
             py::arg("max_seconds"), py::arg("observer"), py::arg("adaptive_rate") = false,
             "The full gradient flow by directions of the neuron space; see agf_fast.Linear.");
}

}  // namespace agf::bind
