#include "bind/session.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "cpu/pool.hpp"

namespace agf::bind {

namespace py = pybind11;

namespace {

// From here on an evaluation keeps many threads busy by itself.
constexpr double shares_well = 8 * cpu::pool::worth_sharing;
constexpr std::chrono::milliseconds between_looks{20};

constexpr int stop_member = 1, stop_all = 2, interrupt = 3;

py::object make(PyObject* type, const char* text) { return py::reinterpret_borrow<py::object>(type)(text); }

// The exception that pybind11 would raise.
py::object raised(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (py::error_already_set& e) {
    return e.value();
  } catch (const std::bad_alloc& e) {
    return make(PyExc_MemoryError, e.what());
  } catch (const std::invalid_argument& e) {
    return make(PyExc_ValueError, e.what());
  } catch (const std::exception& e) {
    return make(PyExc_RuntimeError, e.what());
  } catch (...) {
    return make(PyExc_RuntimeError, "an exception of unknown type in the compiled core");
  }
}

}  // namespace

std::function<bool(const Jump&)> Session::jump_observer(std::size_t member) {
  if (observer_.is_none()) return {};
  return [this, member](const Jump& jump) { return observe(member, [&jump]() { return bind::to_dict(jump); }); };
}

std::function<bool(const Point&, const State*)> Session::point_observer(std::size_t member) {
  if (observer_.is_none()) return {};
  return [this, member](const Point& point, const State* saved) {
    return observe(member, [&point, saved]() { return bind::to_dict(point, saved); });
  };
}

// Hears of the members that a device carries.
class Session::Audience final : public Bystander {
 public:
  Audience(Session& session, std::vector<Outcome>& outcomes, const std::vector<std::size_t>& members)
      : session_(session), outcomes_(outcomes), members_(members) {}

  bool seen(std::size_t run, const Jump& jump) override { return session_.jump_observer(members_[run])(jump); }
  bool seen(std::size_t run, const Point& point, const State* state) override {
    return session_.point_observer(members_[run])(point, state);
  }
  void over(std::size_t run, Trajectory path) override {
    Outcome& outcome = outcomes_[members_[run]];
    outcome.path = std::move(path);
    outcome.begun = true;
    session_.told(outcome);
    session_.finished(members_[run]);
  }
  bool stops(Status& reason) override {
    if (session_.stopped()) {
      reason = Status::interrupted;
      return true;
    }
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - session_.begun_;
    if (!(passed.count() > session_.max_seconds_)) return false;
    reason = Status::max_seconds;
    return true;
  }

 private:
  Session& session_;
  std::vector<Outcome>& outcomes_;
  const std::vector<std::size_t>& members_;
};

py::list Session::run(std::size_t count, double flops, const Engine& engine, const std::vector<Carried>& carried) {
  std::vector<Outcome> outcomes(count);
  {
    // Runs take microseconds to hours and touch no Python object outside Session; once for all of them.
    const py::gil_scoped_release unlock;
    std::vector<char> taken(count, 0);
    for (const Carried& group : carried) {
      for (const std::size_t member : group.members) taken[member] = 1;
      for (const std::size_t member : carry(outcomes, group)) taken[member] = 0;
    }
    std::vector<std::size_t> members;
    for (std::size_t member = 0; member < count; ++member)
      if (!taken[member]) members.push_back(member);
    if (!members.empty()) work(outcomes, members, flops, engine);
  }
  if (error_ && !error_->matches(PyExc_KeyboardInterrupt)) throw std::move(*error_);
  py::list results(count);
  for (std::size_t i = 0; i < count; ++i) {
    results[i] = to_dict(std::move(outcomes[i]));
  }
  return results;
}

std::vector<std::size_t> Session::carry(std::vector<Outcome>& outcomes, const Carried& carried) {
  Audience audience(*this, outcomes, carried.members);
  std::vector<std::size_t> left;
  try {
    for (const std::size_t run : carried.carry(!observer_.is_none(), audience)) left.push_back(carried.members[run]);
  } catch (...) {
    for (const std::size_t member : carried.members)
      if (!outcomes[member].begun) outcomes[member].error = std::current_exception();
    return {};
  }
  Status reason = Status::interrupted;
  if (!left.empty() || !audience.stops(reason)) return left;
  // A run by itself has at least its start to show.
  if (outcomes.size() == 1 && !outcomes[0].begun) return carried.members;
  for (const std::size_t member : carried.members)
    if (!outcomes[member].begun) outcomes[member].status = reason;
  for (const std::size_t member : carried.members) told(outcomes[member]);
  return left;
}

// A run knows that it was interrupted, the session why.
void Session::told(Outcome& outcome) const {
  for (Status* status : {&outcome.path.status, &outcome.status})
    if (*status == Status::interrupted) *status = reason_.load();
}

// Whoever is free takes the next member; what it computes does not depend on that.
void Session::work(std::vector<Outcome>& outcomes, const std::vector<std::size_t>& members, double flops,
                   const Engine& engine) {
  const std::size_t count = members.size(), threads = cpu::pool::threads();
  std::atomic<std::size_t> next{0};
  std::size_t over = 0;
  std::mutex lock;
  std::condition_variable all_over;
  const std::function<void(std::size_t)> lane = [&](std::size_t) {
    for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
      outcomes[members[i]] = one(members[i], outcomes.size() == 1, engine);
      finished(members[i]);
      const std::lock_guard held(lock);
      if (++over == count) all_over.notify_one();
    }
    if (std::this_thread::get_id() != caller_) return;
    // It alone can hear Ctrl-C, so it listens for those still at work.
    std::unique_lock held(lock);
    while (!all_over.wait_for(held, between_looks, [&]() { return over == count; })) {
      held.unlock();
      stopped();
      held.lock();
    }
  };
  const std::size_t lanes = count < threads && flops >= shares_well ? 1 : std::min(count, threads);
  if (lanes == 1) {
    // Outside the pool, which the kernels then have for themselves.
    lane(0);
  } else {
    // A verb called from a callback is not the run that calls back.
    undisturbed([&]() { cpu::pool::parallel(lanes, lane); });
  }
}

Session::Outcome Session::one(std::size_t member, bool alone, const Engine& engine) {
  Outcome outcome;
  Control control;
  control.max_seconds = max_seconds_ - std::chrono::duration<double>(control.begun - begun_).count();
  control.interrupted = [this]() { return stopped(); };
  // A run by itself has at least its start to show.
  if (!alone && control.poll()) {
    outcome.status = control.stop;
  } else {
    try {
      outcome.path = engine(member, control);
      outcome.begun = true;
    } catch (const Interrupted&) {
      outcome.status = control.stop;
    } catch (...) {
      outcome.error = std::current_exception();
    }
  }
  told(outcome);
  return outcome;
}

bool Session::observe(std::size_t member, const std::function<py::dict()>& record) {
  const py::gil_scoped_acquire lock;
  try {
    const int answer = py::cast<int>(observer_(member, record()));
    if (answer >= stop_all) stop(answer == interrupt ? Status::interrupted : Status::callback);
    return answer >= stop_member;
  } catch (py::error_already_set& error) {
    keep(std::move(error));
    return true;
  }
}

void Session::finished(std::size_t member) {
  if (finished_.is_none()) return;
  const py::gil_scoped_acquire lock;
  try {
    finished_(member);
  } catch (py::error_already_set& error) {
    keep(std::move(error));
  }
}

bool Session::stopped() {
  if (stopping_.load(std::memory_order_acquire)) return true;
  if (std::this_thread::get_id() != caller_ || !watch_.raised()) return false;
  const py::gil_scoped_acquire lock;
  keep(py::error_already_set());
  return true;
}

void Session::stop(Status reason) {
  if (stopping_.load()) return;
  reason_.store(reason);
  stopping_.store(true, std::memory_order_release);
}

void Session::keep(py::error_already_set&& error) {
  if (error_) return;
  error_ = std::make_unique<py::error_already_set>(std::move(error));
  // Ctrl-C is an answer, anything else is raised.
  stop(Status::interrupted);
}

py::dict Session::to_dict(Outcome outcome) {
  if (outcome.begun) return bind::to_dict(std::move(outcome.path));
  py::dict out;
  out["status"] = outcome.error ? "failed" : name(outcome.status);
  if (outcome.error) out["error"] = raised(outcome.error);
  return out;
}

FlowOptions flow_options(const std::string& clock, const py::object& save_at, double rtol, bool adaptive_rate) {
  FlowOptions options;
  options.scaled_clock = clock == "scaled";
  options.save_all = save_at.is_none();
  if (!save_at.is_none()) options.save_at = save_at.cast<std::vector<double>>();
  options.adaptive_rate = adaptive_rate;
  options.rtol = rtol;
  return options;
}

}  // namespace agf::bind
