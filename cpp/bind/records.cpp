#include "bind/records.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace agf::bind {

namespace py = pybind11;

namespace {

// Above so many numbers the array takes the vector over: thousands of trajectories are not held twice.
constexpr std::size_t copied = 64;

py::array_t<double> array(std::vector<double>&& values, std::vector<py::ssize_t> shape) {
  if (values.size() > copied) {
    auto held = std::make_unique<std::vector<double>>(std::move(values));
    const py::capsule owner(held.get(), [](void* vector) { delete static_cast<std::vector<double>*>(vector); });
    const double* data = held.release()->data();
    return py::array_t<double>(std::move(shape), data, owner);
  }
  py::array_t<double> out(std::move(shape));
  if (!values.empty()) std::memcpy(out.mutable_data(), values.data(), values.size() * sizeof(double));
  return out;
}

py::array_t<double> array(std::vector<double>&& values) {
  const auto size = static_cast<py::ssize_t>(values.size());
  return array(std::move(values), {size});
}

}  // namespace

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
  if (start.contains("extra")) {
    for (const auto& [key, value] : py::cast<py::dict>(start["extra"])) {
      const auto given = py::cast<Floats>(value);
      const auto name = py::cast<std::string>(key);
      if (name.size() > Extra::longest_name)
        throw py::value_error("start: got extra '" + name + "', expected the names that a run's states have");
      std::vector<std::size_t> shape;
      for (py::ssize_t k = 0; k < given.ndim(); ++k) shape.push_back(static_cast<std::size_t>(given.shape(k)));
      state.extra.put(name.c_str(), {given.data(), given.data() + given.size()}, std::move(shape));
    }
  }
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

py::dict to_dict(State state) {
  py::dict out;
  py::array_t<bool> active(static_cast<py::ssize_t>(state.count));
  for (std::size_t i = 0; i < state.count; ++i) active.mutable_data()[i] = state.active[i] != 0;
  out["direction"] = array(std::move(state.direction),
                           {static_cast<py::ssize_t>(state.count), static_cast<py::ssize_t>(state.params)});
  out["log_norm"] = array(std::move(state.log_norm));
  out["active"] = active;
  out["time"] = state.time;
  out["scaled_time"] = state.scaled_time;
  out["log_eta"] = state.log_eta;
  out["phase_elapsed"] = state.phase_elapsed;
  if (!state.components.empty()) {
    const auto rows = static_cast<py::ssize_t>(state.count);
    const auto size = static_cast<py::ssize_t>(state.components.log.size() / state.count);
    out["frame"] = array(std::move(state.components.frame), {size, size});
    out["component_log"] = array(std::move(state.components.log), {rows, size});
    out["component_sign"] = array(std::move(state.components.sign), {rows, size});
  }
  if (!state.extra.empty()) {
    py::dict extra;
    for (const Extra& held : state.extra.all())
      extra[held.name] =
          array(std::vector<double>(held.values), std::vector<py::ssize_t>(held.shape.begin(), held.shape.end()));
    out["extra"] = extra;
  }
  return out;
}

py::dict to_dict(Jump jump) {
  py::dict out;
  out["time"] = jump.time;
  out["scaled_time"] = jump.scaled_time;
  out["neuron"] = jump.neuron;
  out["utility"] = jump.utility;
  out["direction"] = array(std::move(jump.direction));
  out["alignment"] = jump.alignment;
  out["loss_before"] = jump.loss_before;
  out["loss_after"] = jump.loss_after;
  out["activated"] = py::tuple(py::cast(jump.activated));
  out["returned"] = py::tuple(py::cast(jump.returned));
  out["converged"] = jump.converged;
  out["gradient_norm"] = jump.gradient_norm;
  out["active_time"] = jump.active_time;
  out["relaxation"] = jump.relaxation;
  out["gap"] = jump.gap;
  // Large networks may leave it out.
  out["state"] = jump.state.count ? py::object(to_dict(std::move(jump.state))) : py::object(py::none());
  return out;
}

py::dict to_dict(const Point& point, const State* saved) {
  py::dict out;
  out["time"] = point.time;
  out["scaled_time"] = point.scaled_time;
  out["loss"] = point.loss;
  out["elapsed"] = point.elapsed;
  out["state"] = saved ? py::object(to_dict(*saved)) : py::object(py::none());
  return out;
}

py::dict to_dict(Trajectory path) {
  py::dict out, stats;
  py::list jumps, states;
  for (auto& state : path.states) states.append(to_dict(std::move(state)));
  for (auto& jump : path.jumps) {
    const py::dict record = to_dict(std::move(jump));
    // One object in both places.
    if (path.states.empty() && !record["state"].is_none()) states.append(record["state"]);
    jumps.append(record);
  }
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
  out["time"] = array(std::move(time));
  out["scaled_time"] = array(std::move(scaled));
  out["loss"] = array(std::move(loss));
  out["elapsed"] = array(std::move(elapsed));
  out["log_eta"] = path.state.log_eta;
  out["state"] = to_dict(std::move(path.state));
  out["status"] = name(path.status);
  out["conserved_drift"] = path.conserved_drift;
  std::vector<std::string> notes;
  for (const Note note : path.notes) notes.push_back(name(note));
  out["notes"] = notes;
  out["stats"] = stats;
  return out;
}

}  // namespace agf::bind
