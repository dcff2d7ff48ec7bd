// A run on behalf of Python: without the interpreter's lock, with Ctrl-C and the user's callback heard.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agf/flow.hpp"
#include "agf/trajectory.hpp"
#include "bind/records.hpp"
#include "bind/unlocked.hpp"

namespace agf::bind {

// Ctrl-C and the user's callback need the lock; between looks the run holds none. An exception from the callback is
// kept, stops the run, and is raised once the run has let go of everything.
class Session {
 public:
  Session(double max_seconds, const pybind11::object& observer) : observer_(observer) {
    control.max_seconds = max_seconds;
    control.interrupted = [this]() {
      if (!watch_.raised()) return false;
      const pybind11::gil_scoped_acquire lock;
      keep(pybind11::error_already_set());
      return true;
    };
  }

  bool has_observer() const { return !observer_.is_none(); }

  bool observe(const std::function<pybind11::dict()>& record) {
    pybind11::gil_scoped_acquire lock;
    try {
      return pybind11::cast<bool>(pybind11::bool_(observer_(record())));
    } catch (pybind11::error_already_set& error) {
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
  void keep(pybind11::error_already_set&& error) {
    error_ = std::make_unique<pybind11::error_already_set>(std::move(error));
  }

  const pybind11::object& observer_;
  std::unique_ptr<pybind11::error_already_set> error_;
  SignalWatch watch_;
};

// The options of a gradient flow as Python gives them. The session must outlive them.
inline FlowOptions flow_options(Session& session, double t_end, const std::string& clock,
                                const pybind11::object& save_at, double loss_tol, double rtol, bool adaptive_rate) {
  FlowOptions options;
  options.t_end = t_end;
  options.scaled_clock = clock == "scaled";
  options.save_all = save_at.is_none();
  if (!save_at.is_none()) options.save_at = save_at.cast<std::vector<double>>();
  options.loss_tol = loss_tol;
  options.adaptive_rate = adaptive_rate;
  options.rtol = rtol;
  if (session.has_observer())
    options.observer = [&session](const Point& point, const State* saved) {
      return session.observe([&]() { return to_dict(point, saved); });
    };
  return options;
}

template <typename Body>
pybind11::dict run(Session& session, Body&& body) {
  Trajectory path;
  {
    // A run takes seconds to hours and touches no Python object outside Session.
    pybind11::gil_scoped_release unlock;
    path = body();
  }
  if (session.interrupted()) path.status = Status::interrupted;
  session.rethrow();
  return to_dict(path);
}

}  // namespace agf::bind
