#include "flow.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "clock.hpp"
#include "coupled.hpp"
#include "drift.hpp"
#include "frame.hpp"
#include "interrupt.hpp"

namespace AGF_SPACE {

namespace {

// Relative velocities below so many roundings of the fastest rate are rounding themselves.
AGF_TABLE double most_rate_roundings = 64;
AGF_TABLE double nearly_settled = 3e-4;
// A valley without end: so many steps, while time grew by this factor, that did not halve what is left to gain. On the
// way to an equilibrium it falls exponentially. Where steps are too short to tell, after this many at most.
AGF_TABLE double falling = 0.5, growing = 1.5;
AGF_TABLE long fewest_valley_steps = 16, most_valley_steps = 300;
// Directions this close are one to rounding; this far apart they are two again.
AGF_TABLE double merged_distance = 1e-14, separate_distance = 1e-6;

class FlowRun {
 public:
  AGF_CORE FlowRun(const Frame& frame, Backend& backend, Control& control, const State& start,
                   const FlowOptions& options)
      : frame_(frame),
        problem_(frame.problem()),
        backend_(backend),
        control_(control),
        options_(options),
        degree_(options.adaptive_rate ? 2 : problem_.kappa()),
        state_(frame.inward(start)),
        coupled_flow_(problem_, backend, control, path_.stats, {options.rtol, options.adaptive_rate}),
        drift_(problem_) {
    // They would fall behind the directions.
    state_.components = {};
    if (std::isnan(state_.log_eta)) state_.log_eta = log_mean_threshold(state_, degree_);
    auto target = problem_.make_signal();
    scale_ = problem_.residual(nullptr, 0, *target);
    level_ = faint_log_norm(problem_, scale_ > 0 ? scale_ : 1, options.rtol);
    start_time_ = clock();
  }

  AGF_CORE Trajectory go() {
    for (std::size_t i = 0; i < state_.count; ++i)
      (state_.log_norm[i] >= level_ ? coupled_ : faint_).push_back(index(i));
    if (!uninterrupted([this]() { integrate(); })) finish(control_.stop);
    // The state as far as it had come, also where the run was broken off.
    take_state();
    look_at_pairs();
    if (path_.points.empty()) {
      // Stopped within the first evaluation.
      auto signal = problem_.make_signal();
      const auto theta = gather(state_, coupled_);
      const double loss = problem_.residual(theta.data(), coupled_.size(), *signal);
      path_.points.push_back({state_.time, state_.scaled_time, loss, elapsed_});
    }
    for (std::size_t i = 0; i < state_.count; ++i) state_.active[i] = state_.log_norm[i] >= 0;
    path_.state = frame_.outward(state_);
    if (drift_.has()) path_.conserved_drift = drift_.worst();
    path_.stats.seconds = control_.seconds();
    return std::move(path_);
  }

 private:
  AGF_CORE void integrate() {
    regroup();
    while (next_ < options_.save_at.size() && !options_.save_all && options_.save_at[next_] <= clock()) {
      record(true);
      ++next_;
    }
    if (options_.save_all) record(false);
    if (coupled_.empty() && !(scale_ > 0)) return finish(Status::nothing_to_learn);
    while (!done_) {
      if (control_.poll()) {
        finish(control_.stop);
      } else if (options_.loss_tol >= 0 && coupled_flow_.loss() <= options_.loss_tol) {
        finish(Status::loss_tol);
      } else if (!(options_.t_end - clock() >= std::numeric_limits<double>::min())) {
        // Shorter than any step that arithmetic can take.
        finish(Status::t_end);
      } else if (path_.stats.steps > most_flow_steps) {
        finish(Status::work_limit);
      } else if (coupled_.empty() || at_rest()) {
        plateau();
      } else {
        move();
      }
    }
  }

  const Frame& frame_;
  const Problem& problem_;
  Backend& backend_;
  Control& control_;
  const FlowOptions& options_;
  double degree_;
  Trajectory path_;
  State state_;
  Coupled coupled_flow_;
  Drift drift_;
  Array<int> coupled_, faint_;  // the neurons' numbers, in the order of coupled_flow_
  double scale_ = 0, level_ = 0, start_time_ = 0;
  double elapsed_ = 0;        // since the residual last began to move
  double onset_ = 0;          // time scale of the fastest growth at the last regrouping
  double since_regroup_ = 0;  // on its own: elapsed_ may be inf, where a plateau is longer than any double
  long late_steps_ = 0;
  double late_left_ = 0, late_since_ = 0;  // what was left to gain at the first of them, and when that was
  Array<std::size_t> twin_;                // of each neuron, one that had its direction at some time; else their number
  std::size_t next_ = 0;                   // in save_at
  bool done_ = false;

  AGF_CORE static int index(std::size_t i) { return static_cast<int>(i); }
  AGF_CORE double clock() const { return options_.scaled_clock ? state_.scaled_time : state_.time; }

  AGF_CORE void finish(Status status) {
    path_.status = status;
    done_ = true;
  }

  // The next time at which the run must stand still: a point to save, or the end.
  AGF_CORE double target() const {
    const bool saves = !options_.save_all && next_ < options_.save_at.size();
    return saves ? std::min(options_.save_at[next_], options_.t_end) : options_.t_end;
  }

  // Neurons that an attracting direction has brought together to the last bit forget what was between them: if they
  // part again, when and how is up to rounding, and the run says so. (Exact twins stay together in an exact flow.)
  AGF_CORE void look_at_pairs() {
    const std::size_t count = state_.count, m = state_.params;
    const double* u = state_.direction.data();
    auto distance = [&](std::size_t i, std::size_t j) {
      double square = 0;
      for (std::size_t e = 0; e < m; ++e) square += (u[i * m + e] - u[j * m + e]) * (u[i * m + e] - u[j * m + e]);
      return std::sqrt(square);
    };
    twin_.resize(count, count);
    for (std::size_t i = 0; i < count; ++i)
      if (twin_[i] < count && distance(i, twin_[i]) > separate_distance) path_.note(Note::direction_unresolved);
    // Wide networks have too many pairs: those that are one direction are neighbours in the order of one component.
    Array<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return u[i * m] < u[j * m]; });
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t i = order[k];
      for (std::size_t l = k + 1; l < count && twin_[i] == count; ++l) {
        if (u[order[l] * m] - u[i * m] > merged_distance) break;
        if (distance(i, order[l]) <= merged_distance) twin_[i] = order[l];
      }
    }
  }

  // Writes the present parameters into state_.
  AGF_CORE void take_state() { put(coupled_flow_.theta(), coupled_flow_.faint(), state_); }

  AGF_CORE void put(const Array<double>& theta, const Faint& faint, State& state) const {
    scatter(theta, coupled_, state);
    const std::size_t m = state.params;
    const int* const to = faint_.data();
    const double *const from = faint.direction.data(), *const sizes = faint.log_norm.data();
    double *const u = state.direction.data(), *const log_norm = state.log_norm.data();
    each(faint_.size(), m, [=](std::size_t k) {
      const auto i = static_cast<std::size_t>(to[k]);
      for (std::size_t e = 0; e < m; ++e) u[i * m + e] = from[k * m + e];
      log_norm[i] = sizes[k];
    });
  }

  // Hands state_ over to the joint flow with the present division into coupled and faint.
  AGF_CORE void regroup() {
    const std::size_t m = state_.params;
    Faint faint;
    faint.direction.resize(faint_.size() * m);
    faint.log_norm.resize(faint_.size());
    const int* const from = faint_.data();
    const double *const u = state_.direction.data(), *const log_norm = state_.log_norm.data();
    double *const to = faint.direction.data(), *const sizes = faint.log_norm.data();
    each(faint_.size(), m, [=](std::size_t k) {
      const auto i = static_cast<std::size_t>(from[k]);
      for (std::size_t e = 0; e < m; ++e) to[k * m + e] = u[i * m + e];
      sizes[k] = log_norm[i];
    });
    const double hint = coupled_flow_.step_hint();
    coupled_flow_.reset(gather(state_, coupled_), std::move(faint));
    coupled_flow_.set_step_hint(hint);
    begin_group();
  }

  AGF_CORE void begin_group() {
    drift_.begin(coupled_flow_.theta());
    const double rate = coupled_flow_.top_speed();
    onset_ = rate > 0 ? 1 / rate : 0;
    since_regroup_ = 0;
    late_steps_ = 0;
  }

  AGF_CORE bool record(bool with_state) {
    Point point{state_.time, state_.scaled_time, coupled_flow_.loss(), elapsed_};
    if (!with_state) return push(point, nullptr);
    take_state();
    return push(point, &state_);
  }

  AGF_CORE bool push(const Point& point, const State* state) {
    path_.points.push_back(point);
    if (state) path_.states.push_back(frame_.outward(*state));
    if (options_.observer && options_.observer(point, state ? &path_.states.back() : nullptr)) {
      finish(Status::callback);
      return true;
    }
    return false;
  }

  // The coupled neurons have nothing left to do: what they may still take off the loss is below the accuracy asked
  // for (a gain of e L is a change of the residual by sqrt(e)), none of them is growing into something new, and no
  // hidden direction is unstable. On a valley without end (quadratic networks) that never comes: after many steps that
  // gained next to nothing the residual is taken to stand still, and the run says so.
  AGF_CORE bool at_rest() {
    if (!coupled_flow_.implicit()) return false;
    const double time = since_regroup_ + onset_;
    const double left = coupled_flow_.fall() * time;
    const double loss = coupled_flow_.loss();
    const double accuracy = std::max(0.1 * options_.rtol, 10 * problem_.epsilon());
    const bool settled = left <= std::max(accuracy * accuracy * loss, 1e-20 * scale_);
    const Coupled::Neurons now = coupled_flow_.neurons();
    const std::size_t m = now.params;
    const bool quiet =
        left <= std::max(nearly_settled * loss, 1e-20 * scale_) && every(coupled_.size(), 4 * m, [=](std::size_t k) {
          const double* x = now.theta + k * m;
          const double square = dot(m, x, x);
          return now.relative_speed(k) * time <= 1 &&
                 !(square < 0.1 && now.rate(k) * dot(m, x, now.gradient + k * m) * time > 1e-3 * square);
        });
    late_steps_ = quiet ? late_steps_ + 1 : 0;
    if (late_steps_ == 1 || left < falling * late_left_) {
      late_steps_ = std::min(late_steps_, 1L);
      late_left_ = left;
      late_since_ = time;
    }
    const bool valley = late_steps_ > (time > growing * late_since_ ? fewest_valley_steps : most_valley_steps);
    if (!quiet || (!settled && !valley)) return false;
    double fastest = 0;
    if (!coupled_flow_.stable(slowest_growth, &fastest)) {
      // A saddle, and at rest on it to the last bit: what would leave it is below rounding, so the flow stays.
      const double slowest = most_rate_roundings * problem_.epsilon() * fastest;
      const bool still = !coupled_.empty() &&
                         every(coupled_.size(), 2 * m, [=](std::size_t k) { return now.relative_speed(k) <= slowest; });
      if (still) path_.note(Note::direction_unresolved);
      return false;
    }
    if (!settled) path_.note(Note::valley_frozen);
    return true;
  }

  // The residual stands still: the faint neurons run by themselves, each in its own clock, up to where one begins to
  // be seen.
  AGF_CORE void plateau() {
    take_state();
    const std::size_t m = state_.params;
    Array<Dormant> faint(faint_.size());
    for (std::size_t k = 0; k < faint.size(); ++k) {
      const double* row = &coupled_flow_.faint().direction[k * m];
      faint[k].direction.assign(row, row + m);
      faint[k].log_norm = coupled_flow_.faint().log_norm[k];
    }
    RaceOptions race_options;
    race_options.clock = degree_;
    race_options.threshold = level_;
    race_options.rtol = options_.rtol;
    const double reach = std::pow(problem_.input_scale(), problem_.kappa() - 1);
    race_options.inert = std::max(1e-10 * std::sqrt(2 * scale_) * reach, 1e-300);
    const double goal = target();
    const double left = goal - clock();
    race_options.log_limit = std::log(left) + (options_.scaled_clock ? state_.log_eta : 0);
    const RaceOutcome outcome =
        race(problem_, backend_, control_, path_.stats, coupled_flow_.residual(), race_options, faint);
    if (outcome.unresolved) path_.note(Note::direction_unresolved);
    if (outcome.end == RaceEnd::stopped) return;
    if (outcome.end == RaceEnd::exhausted) return finish(Status::work_limit);
    if (outcome.end == RaceEnd::inert && !std::isfinite(goal)) return finish(Status::inert);
    const bool crossed = outcome.end == RaceEnd::crossed;
    const double log_elapsed = crossed ? outcome.log_elapsed : race_options.log_limit;
    look_at_pairs();
    pass(state_, log_elapsed);
    elapsed_ += std::exp(log_elapsed);
    if (!crossed) (options_.scaled_clock ? state_.scaled_time : state_.time) = goal;
    scatter(coupled_flow_.theta(), coupled_, state_);
    for (std::size_t k = 0; k < faint.size(); ++k) {
      const auto i = static_cast<std::size_t>(faint_[k]);
      std::copy(faint[k].direction.begin(), faint[k].direction.end(), &state_.direction[i * m]);
      state_.log_norm[i] = faint[k].log_norm;
    }
    look_at_pairs();
    Array<int> stay;
    for (std::size_t k = 0; k < faint_.size(); ++k)
      (crossed && faint[k].log_norm >= level_ ? coupled_ : stay).push_back(faint_[k]);
    faint_ = stay;
    if (crossed) {
      for (int i : coupled_)
        state_.log_norm[static_cast<std::size_t>(i)] = std::max(state_.log_norm[static_cast<std::size_t>(i)], level_);
      elapsed_ = 0;
      coupled_flow_.set_step_hint(0);
    }
    regroup();
    if (options_.save_all) {
      record(false);
    } else if (!crossed && next_ < options_.save_at.size() && options_.save_at[next_] == goal) {
      if (!record(true)) ++next_;
    }
  }

  AGF_CORE void move() {
    double left = target() - clock();
    if (options_.scaled_clock) left *= std::exp(state_.log_eta);
    // A faint neuron must not grow far into sight before it is seen.
    double limit = left;
    if (!options_.save_all && next_ < options_.save_at.size()) {
      // Points to save are read off the dense output; only the end is stepped to.
      limit = options_.t_end - clock();
      if (options_.scaled_clock) limit *= std::exp(state_.log_eta);
    }
    const double to_end = limit;
    limit = coupled_flow_.rise(level_ + 2, limit);
    double moved = 0;
    const double from = clock(), time_before = state_.time, scaled_before = state_.scaled_time;
    const auto step = coupled_flow_.advance(limit, to_end, moved);
    if (step == Coupled::Step::stopped) return;
    if (step == Coupled::Step::failed) return finish(Status::non_finite);
    const double unit = options_.scaled_clock ? std::exp(-state_.log_eta) : 1;
    const double elapsed_before = elapsed_;
    state_.time += moved;
    state_.scaled_time += moved * std::exp(-state_.log_eta);
    elapsed_ += moved;
    since_regroup_ += moved;
    if (moved == to_end && std::isfinite(options_.t_end))
      (options_.scaled_clock ? state_.scaled_time : state_.time) = options_.t_end;
    drift_.look(coupled_flow_.theta());
    if (options_.save_all) {
      if (record(false)) return;
    } else {
      save_between({time_before, scaled_before, 0, elapsed_before}, from, moved, unit);
      if (done_) return;
    }

    if (coupled_flow_.settled(level_ - 2, level_)) return;
    Array<int> fading, appearing, coupled, faint;
    const std::size_t m = state_.params;
    for (std::size_t k = 0; k < coupled_.size(); ++k) {
      const bool fades = std::log(norm(m, &coupled_flow_.theta()[k * m])) < level_ - 2;
      if (fades) fading.push_back(index(k));
      (fades ? faint : coupled).push_back(coupled_[k]);
    }
    for (std::size_t j = 0; j < faint_.size(); ++j) {
      const bool appears = coupled_flow_.faint().log_norm[j] >= level_;
      if (appears) appearing.push_back(index(j));
      (appears ? coupled : faint).push_back(faint_[j]);
    }
    // Before the flow's own, which may be interrupted once its members have moved.
    coupled_ = coupled;
    faint_ = faint;
    coupled_flow_.regroup(fading, appearing);
    begin_group();
  }

  // `before`: where the last step, of length `moved`, began.
  AGF_CORE void save_between(const Point& before, double from, double moved, double unit) {
    auto signal = problem_.make_signal();
    Array<double> theta;
    Faint faint;
    while (next_ < options_.save_at.size() && options_.save_at[next_] <= clock()) {
      const double at = options_.save_at[next_];
      const double s = std::clamp((at - from) / (unit * moved), 0.0, 1.0);
      coupled_flow_.between(s, theta, faint);
      Point point;
      point.loss = problem_.residual(theta.data(), coupled_.size(), *signal);
      point.time = before.time + s * moved;
      point.scaled_time = before.scaled_time + s * moved * std::exp(-state_.log_eta);
      (options_.scaled_clock ? point.scaled_time : point.time) = at;
      point.elapsed = before.elapsed + s * moved;
      State state = state_;
      state.time = point.time;
      state.scaled_time = point.scaled_time;
      put(theta, faint, state);
      for (std::size_t i = 0; i < state.count; ++i) state.active[i] = state.log_norm[i] >= 0;
      ++next_;
      if (push(point, &state)) return;
    }
  }
};

}  // namespace

// Below a tenth of the accuracy asked for, relative to the residual (and never below rounding, where leaving it out is
// exact). A sigma that is not homogeneous must also be its leading term to that accuracy.
AGF_CORE double faint_log_norm(const Problem& problem, double loss, double rtol) {
  const double scale = std::pow(problem.input_scale(), problem.kappa() - 1) / std::sqrt(2 * loss);
  const double sight = std::log(std::max(0.1 * rtol, 0.05 * problem.epsilon()));
  const double level = (sight - std::max(0.0, std::log(scale))) / problem.kappa();
  return problem.homogeneous() ? level : std::min(level, sight - std::max(0.0, std::log(problem.input_scale())));
}

AGF_CORE AGF_APART Trajectory gradient_flow(const Problem& problem, Backend& backend, Control& control,
                                            const State& start, const FlowOptions& options) {
  const Listening listening(control);
  const Frame frame(problem, start);
  return FlowRun(frame, backend, control, start, options).go();
}

}  // namespace AGF_SPACE
