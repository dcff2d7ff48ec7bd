// What a run is told, what it passes from round to round, and what comes out.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace agf {

inline constexpr double infinity = std::numeric_limits<double>::infinity();

enum class Status {
  loss_tol,
  inert,
  all_active,
  max_jumps,
  max_seconds,
  callback,
  interrupted,
  t_end,
  nothing_to_learn,
  work_limit,
  non_finite,
};

inline const char* name(Status status) {
  switch (status) {
    case Status::loss_tol:
      return "loss_tol";
    case Status::inert:
      return "inert";
    case Status::all_active:
      return "all_active";
    case Status::max_jumps:
      return "max_jumps";
    case Status::max_seconds:
      return "max_seconds";
    case Status::callback:
      return "callback";
    case Status::interrupted:
      return "interrupted";
    case Status::t_end:
      return "t_end";
    case Status::nothing_to_learn:
      return "nothing_to_learn";
    case Status::work_limit:
      return "work_limit";
    case Status::non_finite:
      return "non_finite";
  }
  return "";
}

// Directions by their components in an orthonormal frame (rows), each as sign and logarithm: a double forgets what is
// below 1e-16 of the largest. In the coordinates of the run (frame.hpp). Rows of zeros: known by direction only.
struct Components {
  std::vector<double> frame;      // (params, params); empty: there are none
  std::vector<double> log, sign;  // (count, params)

  bool empty() const { return frame.empty(); }
  bool fits(std::size_t count, std::size_t params) const {
    return frame.size() == params * params && log.size() == count * params && sign.size() == log.size();
  }
  void reset(std::size_t count, std::size_t params) {
    frame.clear();
    log.assign(count * params, -infinity);
    sign.assign(count * params, 0.0);
  }
  void forget(int neuron, std::size_t params) {
    std::fill_n(&log[static_cast<std::size_t>(neuron) * params], params, -infinity);
    std::fill_n(&sign[static_cast<std::size_t>(neuron) * params], params, 0.0);
  }
};

// An array by name, for what an engine of its own passes from run to run beside directions and log-norms.
struct Extra {
  std::vector<double> values;
  std::vector<std::size_t> shape;
};

// Every neuron as theta = e^lambda * direction, |direction| = 1.
struct State {
  std::size_t count = 0, params = 0;
  std::vector<double> direction;      // (count, params)
  std::vector<double> log_norm;       // (count)
  std::vector<unsigned char> active;  // (count)
  double time = 0;                    // physical clock; inf once it leaves double (kappa > 2)
  double scaled_time = 0;             // time / eta
  double log_eta = std::numeric_limits<double>::quiet_NaN();
  double phase_elapsed = 0;  // flow time spent in the present active phase; inf: that phase is complete
  Components components;     // where dormant dynamics are linear
  std::map<std::string, Extra> extra;
};

struct Jump {
  double time = 0, scaled_time = 0;
  int neuron = -1;
  double utility = 0;
  std::vector<double> direction;
  double alignment = 0;
  double loss_before = 0, loss_after = 0;
  std::vector<int> activated, returned;
  bool converged = false;
  double gradient_norm = 0;
  double active_time = 0;
  double relaxation = 0;  // flow time until a tenth of the phase's drop was left
  // (t_2 - t_1) / t_2, t_1 this jump's time and t_2 when the next candidate would have come: near 0 the order hangs on
  // little. 1 where there was no other.
  double gap = std::numeric_limits<double>::quiet_NaN();
  State state;
};

struct Stats {
  long evaluations = 0;  // calls of the utility-gradient kernel, each for a whole set of neurons
  long hessians = 0;
  long steps = 0;
  long rejected = 0;
  double seconds = 0;
  std::vector<double> active_time;
};

struct Point {
  double time = 0, scaled_time = 0, loss = 0, elapsed = 0;
};

struct Trajectory {
  std::vector<Jump> jumps;
  std::vector<Point> points;
  std::vector<State> states;
  State state;
  Status status = Status::t_end;
  double conserved_drift = std::numeric_limits<double>::quiet_NaN();
  std::vector<std::string> notes;
  Stats stats;

  void note(const std::string& text) {
    for (const auto& n : notes)
      if (n == text) return;
    notes.push_back(text);
  }
};

// The ways a run is stopped from outside, looked at between steps.
struct Control {
  std::function<bool()> interrupted;  // Ctrl-C pressed
  double max_seconds = infinity;
  std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();
  Status stop = Status::t_end;  // why, once stopping
  bool stopping = false;

  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count(); }
  bool poll() {
    if (stopping) return true;
    if (interrupted && interrupted()) {
      stop = Status::interrupted;
      stopping = true;
    } else if (seconds() > max_seconds) {
      stop = Status::max_seconds;
      stopping = true;
    }
    return stopping;
  }
};

}  // namespace agf
