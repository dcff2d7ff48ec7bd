// The two verbs for Python: dictionaries in and out, the run itself without the interpreter's lock.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>

#include "agf/alternate.hpp"
#include "agf/flow.hpp"
#include "bind/dense.hpp"
#include "bind/unlocked.hpp"
#include "cpu/backend.hpp"

namespace py = pybind11;

namespace agf::bind {

namespace {

py::array_t<double> array(const std::vector<double>& values, std::vector<py::ssize_t> shape) {
  py::array_t<double> out(std::move(shape));
  if (!values.empty()) std::memcpy(out.mutable_data(), values.data(), values.size() * sizeof(double));
  return out;
}

py::array_t<double> array(const std::vector<double>& values) {
  return array(values, {static_cast<py::ssize_t>(values.size())});
}

State state_from(const py::dict& start, std::size_t params) {
  using Floats = py::array_t<double, py::array::c_style | py::array::forcecast>;
  const auto direction = py::cast<Floats>(start["direction"]);
  const auto log_norm = py::cast<Floats>(start["log_norm"]);
  const auto active = py::cast<py::array_t<bool, py::array::c_style | py::array::forcecast>>(start["active"]);
  if (direction.ndim() != 2 || static_cast<std::size_t>(direction.shape(1)) != params || log_norm.ndim() != 1 ||
      active.ndim() != 1 || log_norm.shape(0) != direction.shape(0) || active.shape(0) != direction.shape(0))
    throw py::value_error("start: got arrays of unequal shape, expected direction (H, " + std::to_string(params) +
                          "), log_norm (H,), active (H,)");
  State state;
  state.count = static_cast<std::size_t>(direction.shape(0));
  state.params = params;
  state.direction.assign(direction.data(), direction.data() + direction.size());
  state.log_norm.assign(log_norm.data(), log_norm.data() + log_norm.size());
  for (py::ssize_t i = 0; i < active.size(); ++i) state.active.push_back(active.data()[i] ? 1 : 0);
  state.time = start["time"].cast<double>();
  state.scaled_time = start["scaled_time"].cast<double>();
  state.log_eta = start["log_eta"].cast<double>();
  state.phase_elapsed = start["phase_elapsed"].cast<double>();
  if (start.contains("frame")) {
    const auto frame = py::cast<Floats>(start["frame"]);
    const auto log = py::cast<Floats>(start["component_log"]);
    const auto sign = py::cast<Floats>(start["component_sign"]);
    const py::ssize_t size = frame.ndim() == 2 ? frame.shape(0) : -1;
    for (const auto& rows : {log, sign})
      if (size < 0 || frame.shape(1) != size || rows.ndim() != 2 || rows.shape(0) != direction.shape(0) ||
          rows.shape(1) != size)
        throw py::value_error(
            "start: got components of unequal shape, expected frame (k, k), component_log (H, k), component_sign (H, "
            "k)");
    state.components.frame.assign(frame.data(), frame.data() + frame.size());
    state.components.log.assign(log.data(), log.data() + log.size());
    state.components.sign.assign(sign.data(), sign.data() + sign.size());
  }
  return state;
}

py::dict to_dict(const State& state) {
  py::dict out;
  py::array_t<bool> active(static_cast<py::ssize_t>(state.count));
  for (std::size_t i = 0; i < state.count; ++i) active.mutable_data()[i] = state.active[i] != 0;
  out["direction"] =
      array(state.direction, {static_cast<py::ssize_t>(state.count), static_cast<py::ssize_t>(state.params)});
  out["log_norm"] = array(state.log_norm);
  out["active"] = active;
  out["time"] = state.time;
  out["scaled_time"] = state.scaled_time;
  out["log_eta"] = state.log_eta;
  out["phase_elapsed"] = state.phase_elapsed;
  if (!state.components.empty()) {
    const auto rows = static_cast<py::ssize_t>(state.count);
    const auto size = static_cast<py::ssize_t>(state.components.log.size() / state.count);
    out["frame"] = array(state.components.frame, {size, size});
    out["component_log"] = array(state.components.log, {rows, size});
    out["component_sign"] = array(state.components.sign, {rows, size});
  }
  return out;
}

py::dict to_dict(const Jump& jump) {
  py::dict out;
  out["time"] = jump.time;
  out["scaled_time"] = jump.scaled_time;
  out["neuron"] = jump.neuron;
  out["utility"] = jump.utility;
  out["direction"] = array(jump.direction);
  out["alignment"] = jump.alignment;
  out["loss_before"] = jump.loss_before;
  out["loss_after"] = jump.loss_after;
  out["activated"] = py::tuple(py::cast(jump.activated));
  out["returned"] = py::tuple(py::cast(jump.returned));
  out["converged"] = jump.converged;
  out["gradient_norm"] = jump.gradient_norm;
  out["active_time"] = jump.active_time;
  out["state"] = to_dict(jump.state);
  return out;
}

py::dict to_dict(const Trajectory& path) {
  py::dict out, stats;
  py::list jumps, states;
  for (const auto& jump : path.jumps) jumps.append(to_dict(jump));
  for (const auto& state : path.states) states.append(to_dict(state));
  if (path.states.empty())
    for (const auto& jump : path.jumps) states.append(to_dict(jump.state));
  std::vector<double> time, scaled, loss, elapsed;
  for (const auto& point : path.points) {
    time.push_back(point.time);
    scaled.push_back(point.scaled_time);
    loss.push_back(point.loss);
    elapsed.push_back(point.elapsed);
  }
  stats["evaluations"] = path.stats.evaluations;
  stats["hessians"] = path.stats.hessians;
  stats["steps"] = path.stats.steps;
  stats["rejected"] = path.stats.rejected;
  stats["seconds"] = path.stats.seconds;
  stats["active_time"] = path.stats.active_time;
  out["jumps"] = jumps;
  out["states"] = states;
  out["time"] = array(time);
  out["scaled_time"] = array(scaled);
  out["loss"] = array(loss);
  out["elapsed"] = array(elapsed);
  out["state"] = to_dict(path.state);
  out["status"] = name(path.status);
  out["log_eta"] = path.state.log_eta;
  out["conserved_drift"] = path.conserved_drift;
  out["notes"] = path.notes;
  out["stats"] = stats;
  return out;
}

// Ctrl-C and the user's callback need the lock; between looks the run holds none. An exception from the callback is
// kept, stops the run, and is raised once the run has let go of everything.
class Session {
 public:
  Session(double max_seconds, const py::object& observer) : observer_(observer) {
    control.max_seconds = max_seconds;
    control.interrupted = [this]() {
      if (!watch_.raised()) return false;
      const py::gil_scoped_acquire lock;
      keep(py::error_already_set());
      return true;
    };
  }

  bool has_observer() const { return !observer_.is_none(); }

  bool observe(const std::function<py::dict()>& record) {
    py::gil_scoped_acquire lock;
    try {
      return py::cast<bool>(py::bool_(observer_(record())));
    } catch (py::error_already_set& error) {
      keep(std::move(error));
      return true;
    }
  }

  // Ctrl-C is an answer ("interrupted"), anything else is raised.
  void rethrow() {
    if (!error_) return;
    if (error_->matches(PyExc_KeyboardInterrupt)) {
      error_.reset();
      return;
    }
    throw std::move(*error_);
  }
  bool interrupted() const { return error_ && error_->matches(PyExc_KeyboardInterrupt); }

  Control control;

 private:
  void keep(py::error_already_set&& error) { error_ = std::make_unique<py::error_already_set>(std::move(error)); }

  const py::object& observer_;
  std::unique_ptr<py::error_already_set> error_;
  SignalWatch watch_;
};

// The problem a run of so many neurons works on. Rounding to float stops a stiff integrator in its valleys, and where
// one evaluation takes about a millisecond or less there is little that float could save: such runs are in double
// inside, whatever the scalar type of the data.
std::shared_ptr<const Problem> working_problem(const DenseKernel& kernel, std::size_t count) {
  constexpr double small = 1e8;
  if (kernel.problem->evaluation_flops(count) > small) return kernel.problem;
  std::shared_ptr<const Problem> twin = kernel.problem->in_double();
  return twin ? twin : kernel.problem;
}

template <typename Body>
py::dict run(Session& session, Body&& body) {
  Trajectory path;
  {
    // A run takes seconds to hours and touches no Python object outside Session.
    py::gil_scoped_release unlock;
    path = body();
  }
  if (session.interrupted()) path.status = Status::interrupted;
  session.rethrow();
  return to_dict(path);
}

py::dict run_alternating(const DenseKernel& kernel, const py::dict& start, int max_jumps, double loss_tol,
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

py::dict run_flow(const DenseKernel& kernel, const py::dict& start, double t_end, const std::string& clock,
                  const py::object& save_at, double loss_tol, double rtol, double max_seconds,
                  const py::object& observer, bool adaptive_rate) {
  const State state = state_from(start, kernel.problem->params());
  const std::shared_ptr<const Problem> problem = working_problem(kernel, state.count);
  Session session(max_seconds, observer);
  FlowOptions options;
  options.t_end = t_end;
  options.scaled_clock = clock == "scaled";
  options.save_all = save_at.is_none();
  if (!save_at.is_none()) options.save_at = save_at.cast<std::vector<double>>();
  options.loss_tol = loss_tol;
  options.adaptive_rate = adaptive_rate;
  options.rtol = rtol;
  if (session.has_observer())
    options.observer = [&](const Point& point, const State* saved) {
      return session.observe([&]() {
        py::dict record;
        record["time"] = point.time;
        record["scaled_time"] = point.scaled_time;
        record["loss"] = point.loss;
        record["elapsed"] = point.elapsed;
        record["state"] = saved ? py::object(to_dict(*saved)) : py::object(py::none());
        return record;
      });
    };
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
