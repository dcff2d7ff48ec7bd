// The runs of one call on behalf of Python: without the interpreter's lock, with Ctrl-C and the user's callbacks heard.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agf/carrier.hpp"
#include "agf/flow.hpp"
#include "agf/trajectory.hpp"
#include "bind/records.hpp"
#include "bind/unlocked.hpp"

namespace agf::bind {

// Members are independent: each has its own clock, ending and errors, and the same bits alone or in company. A single
// run is a company of one.
//
// Ctrl-C and the user's callbacks need the lock; between looks the runs hold none. An exception that Python raises in
// between is kept, stops all members, and is raised once they have let go of everything.
class Session {
 public:
  // observer(member, record), at jumps or saved points, answers 0 to go on, 1 to stop this member, 2 to stop all, 3 to
  // stop all as Ctrl-C does; finished(member) hears that one is over. Both are called from whichever thread that member
  // is on. None: nobody listens.
  Session(double max_seconds, const pybind11::object& observer, const pybind11::object& finished)
      : max_seconds_(max_seconds), observer_(observer), finished_(finished) {}

  // What a member's options take: empty where nobody listens.
  std::function<bool(const Jump&)> jump_observer(std::size_t member);
  std::function<bool(const Point&, const State*)> point_observer(std::size_t member);

  // One dictionary per member: its trajectory, or where there is none (it failed, or was not begun before the call was
  // stopped) its status, and the error of a failure. `flops` is the work of one evaluation: fewer members than threads
  // run one after another where its kernels share the threads instead.
  using Engine = std::function<Trajectory(std::size_t member, Control& control)>;
  // Members that a device carries, many at the same time: has them carried, and returns those that it had to leave,
  // which then run like the others. Numbers in what the bystander hears are places in `members`.
  struct Carried {
    std::vector<std::size_t> members;
    std::function<std::vector<std::size_t>(bool watched, Bystander& bystander)> carry;
  };
  pybind11::list run(std::size_t count, double flops, const Engine& engine, const std::vector<Carried>& carried = {});

 private:
  struct Outcome {
    Trajectory path;
    bool begun = false;
    Status status = Status::interrupted;  // of a member that was not begun
    std::exception_ptr error;
  };

  class Audience;

  void work(std::vector<Outcome>& outcomes, const std::vector<std::size_t>& members, double flops,
            const Engine& engine);
  std::vector<std::size_t> carry(std::vector<Outcome>& outcomes, const Carried& carried);
  void told(Outcome& outcome) const;
  Outcome one(std::size_t member, bool alone, const Engine& engine);
  bool observe(std::size_t member, const std::function<pybind11::dict()>& record);
  void finished(std::size_t member);
  bool stopped();
  void stop(Status reason);
  void keep(pybind11::error_already_set&& error);
  static pybind11::dict to_dict(Outcome outcome);

  const double max_seconds_;
  const pybind11::object& observer_;
  const pybind11::object& finished_;
  const std::thread::id caller_ = std::this_thread::get_id();  // the only one to hear signals
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  std::unique_ptr<pybind11::error_already_set> error_;  // touched with the lock held
  SignalWatch watch_;
  std::atomic<bool> stopping_{false};
  std::atomic<Status> reason_{Status::interrupted};
};

// The options of gradient flows as Python gives them, but for t_end, loss_tol and the observer, which are
// each member's own.
FlowOptions flow_options(const std::string& clock, const pybind11::object& save_at, double rtol, bool adaptive_rate);

// One for each member.
template <typename T>
void check_length(const std::vector<T>& given, const char* name, std::size_t count) {
  if (given.size() != count)
    throw pybind11::value_error(std::string(name) + ": got " + std::to_string(given.size()) + ", expected one for " +
                                "each of the " + std::to_string(count) + " starts");
}

}  // namespace agf::bind
