// The two verbs for Python.
#include "bind/engine.hpp"

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "agf/alternate.hpp"
#include "agf/flow.hpp"
#include "bind/kernel.hpp"
#include "bind/session.hpp"
#include "cpu/backend.hpp"

namespace py = pybind11;

namespace agf::bind {

namespace {

// The problem a run of so many neurons works on. Rounding to float stops a stiff integrator in its valleys, and where
// one evaluation takes about a millisecond or less there is little that float could save: such runs are in double
// inside, whatever the scalar type of the data.
std::shared_ptr<const Problem> working_problem(const Kernel& kernel, std::size_t count) {
  constexpr double small = 1e8;
  if (kernel.problem->evaluation_flops(count) > small) return kernel.problem;
  std::shared_ptr<const Problem> twin = kernel.problem->in_double();
  return twin ? twin : kernel.problem;
}

py::dict run_alternating(const Kernel& kernel, const py::dict& start, int max_jumps, double loss_tol,
                         double activation_window, bool adaptive_rate, double active_time, double rtol,
                         double max_seconds, const py::object& observer) {
  const State state = state_from(start, kernel.problem->params());
  const std::shared_ptr<const Problem> problem = working_problem(kernel, state.count);
  Session session(max_seconds, observer);
  AlternateOptions options{max_jumps, loss_tol, activation_window, adaptive_rate, active_time, rtol, {}};
  if (session.has_observer())
    options.observer = [&](const Jump& jump) { return session.observe([&]() { return to_dict(jump); }); };
  return run(session, [&]() { return alternate(*problem, cpu::backend(), session.control, state, options); });
}

py::dict run_flow(const Kernel& kernel, const py::dict& start, double t_end, const std::string& clock,
                  const py::object& save_at, double loss_tol, double rtol, double max_seconds,
                  const py::object& observer, bool adaptive_rate) {
  const State state = state_from(start, kernel.problem->params());
  const std::shared_ptr<const Problem> problem = working_problem(kernel, state.count);
  Session session(max_seconds, observer);
  const FlowOptions options = flow_options(session, t_end, clock, save_at, loss_tol, rtol, adaptive_rate);
  return run(session, [&]() { return gradient_flow(*problem, cpu::backend(), session.control, state, options); });
}

}  // namespace

void bind_engine(py::module_& module) {
  module.def("alternating_gradient_flow", &run_alternating, py::arg("kernel"), py::arg("start"), py::kw_only(),
             py::arg("max_jumps"), py::arg("loss_tol"), py::arg("activation_window"), py::arg("adaptive_rate"),
             py::arg("active_time"), py::arg("rtol"), py::arg("max_seconds"), py::arg("observer"),
             "Algorithm 1 from `start`; see agf_fast.alternating_gradient_flow.");
  module.def("gradient_flow", &run_flow, py::arg("kernel"), py::arg("start"), py::arg("t_end"), py::kw_only(),
             py::arg("clock"), py::arg("save_at"), py::arg("loss_tol"), py::arg("rtol"), py::arg("max_seconds"),
             py::arg("observer"), py::arg("adaptive_rate") = false,
             "The full gradient flow from `start`; see agf_fast.gradient_flow.");
}

}  // namespace agf::bind
