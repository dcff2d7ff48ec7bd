// What a run is told, what it passes from round to round, and what comes out.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "containers.hpp"

#if !defined(AGF_BLOCK)
#include <chrono>
#include <functional>
#endif

namespace AGF_SPACE {

AGF_TABLE double infinity = std::numeric_limits<double>::infinity();

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

AGF_CORE inline const char* name(Status status) {
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
  Array<double> frame;      // (params, params); empty: there are none
  Array<double> log, sign;  // (count, params)

  AGF_CORE bool empty() const { return frame.empty(); }
  AGF_CORE bool fits(std::size_t count, std::size_t params) const {
    return frame.size() == params * params && log.size() == count * params && sign.size() == log.size();
  }
  AGF_CORE void reset(std::size_t count, std::size_t params) {
    frame.clear();
    log.assign(count * params, -infinity);
    sign.assign(count * params, 0.0);
  }
  AGF_CORE void forget(int neuron, std::size_t params) {
    std::fill_n(&log[static_cast<std::size_t>(neuron) * params], params, -infinity);
    std::fill_n(&sign[static_cast<std::size_t>(neuron) * params], params, 0.0);
  }
};

// An array by name.
struct Extra {
  static constexpr std::size_t longest_name = 31;
  char name[longest_name + 1] = {};
  Array<double> values;
  Array<std::size_t> shape;

  AGF_CORE bool is(const char* other) const {
    const char* mine = name;
    for (; *mine && *mine == *other; ++mine, ++other) {
    }
    return *mine == *other;
  }
};

// What an engine of its own passes from run to run beside directions and log-norms.
class Extras {
 public:
  AGF_CORE bool empty() const { return all_.empty(); }
  AGF_CORE const Array<Extra>& all() const { return all_; }
  AGF_CORE Extra& at(std::size_t k) { return all_[k]; }
  // Null where there is none of that name.
  AGF_CORE const Extra* find(const char* name) const {
    for (const Extra& extra : all_)
      if (extra.is(name)) return &extra;
    return nullptr;
  }
  // Names are at most Extra::longest_name long.
  AGF_CORE void put(const char* name, Array<double> values, Array<std::size_t> shape) {
    for (Extra& extra : all_)
      if (extra.is(name)) {
        extra.values = std::move(values);
        extra.shape = std::move(shape);
        return;
      }
    Extra added;
    for (std::size_t k = 0; k < Extra::longest_name && name[k]; ++k) added.name[k] = name[k];
    added.values = std::move(values);
    added.shape = std::move(shape);
    all_.push_back(std::move(added));
  }

 private:
  Array<Extra> all_;
};

// Every neuron as theta = e^lambda * direction, |direction| = 1.
struct State {
  std::size_t count = 0, params = 0;
  Array<double> direction;      // (count, params)
  Array<double> log_norm;       // (count)
  Array<unsigned char> active;  // (count)
  double time = 0;              // physical clock; inf once it leaves double (kappa > 2)
  double scaled_time = 0;       // time / eta
  double log_eta = std::numeric_limits<double>::quiet_NaN();
  double phase_elapsed = 0;  // flow time spent in the present active phase; inf: that phase is complete
  Components components;     // where dormant dynamics are linear
  Extras extra;
};

struct Jump {
  double time = 0, scaled_time = 0;
  int neuron = -1;
  double utility = 0;
  Array<double> direction;
  double alignment = 0;
  double loss_before = 0, loss_after = 0;
  Array<int> activated, returned;
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
  Array<double> active_time;
};

struct Point {
  double time = 0, scaled_time = 0, loss = 0, elapsed = 0;
};

// Reservations about a result.
enum class Note { step_failed, active_phase_work_limit, direction_unresolved, valley_frozen };

inline const char* name(Note note) {
  switch (note) {
    case Note::step_failed:
      return "step_failed";
    case Note::active_phase_work_limit:
      return "active_phase_work_limit";
    case Note::direction_unresolved:
      return "direction_unresolved";
    case Note::valley_frozen:
      return "valley_frozen";
  }
  return "";
}

#if defined(AGF_BLOCK)
// To the host, and what comes from there.
template <typename Record>
AGF_CORE void report(Record& record);
AGF_CORE bool told_to_stop(Status& reason);
AGF_CORE double seconds_of_block();
#endif

// Records in the order they were made: all of them kept, or in a block the last one, while those before are on their
// way to the host.
#if defined(AGF_BLOCK)
template <typename T>
class Records {
 public:
  AGF_CORE bool empty() const { return size_ == 0; }
  AGF_CORE std::size_t size() const { return size_; }
  AGF_CORE T& back() { return last_; }
  AGF_CORE void push_back(T record) {
    send();
    last_ = std::move(record);
    waiting_ = true;
    ++size_;
  }
  AGF_CORE void send() {
    if (waiting_) report(last_);
    waiting_ = false;
  }

 private:
  T last_;
  std::size_t size_ = 0;
  bool waiting_ = false;
};
#else
template <typename T>
using Records = std::vector<T>;
#endif

struct Trajectory {
  Records<Jump> jumps;
  Records<Point> points;
  Records<State> states;
  State state;
  Status status = Status::t_end;
  double conserved_drift = std::numeric_limits<double>::quiet_NaN();
  Array<Note> notes;
  Stats stats;

  AGF_CORE void note(Note note) {
    for (const Note known : notes)
      if (known == note) return;
    notes.push_back(note);
  }
};

#if defined(AGF_BLOCK)

// What a run in a block is told from the host: see block/report.cuh.
struct Control {
  AGF_CORE bool poll() {
    if (!stopping) stopping = told_to_stop(stop);
    return stopping;
  }
  AGF_CORE double seconds() const { return seconds_of_block(); }

  Status stop = Status::t_end;  // why, once stopping
  bool stopping = false;
};

// Whoever watches is on the host, and is asked there.
struct Observer {
  bool watched = false;
  AGF_CORE explicit operator bool() const { return watched; }
  AGF_CORE bool operator()(const Jump& jump) const;
  AGF_CORE bool operator()(const Point& point, const State* state) const;
};
using JumpObserver = Observer;
using PointObserver = Observer;

#else

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

// Sees each record as it is made; true stops the run.
using JumpObserver = std::function<bool(const Jump&)>;
using PointObserver = std::function<bool(const Point&, const State*)>;

#endif

}  // namespace AGF_SPACE
