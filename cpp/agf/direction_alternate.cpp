#include "direction_alternate.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "active.hpp"
#include "clock.hpp"
#include "directions.hpp"
#include "entries.hpp"
#include "interrupt.hpp"
#include "linear.hpp"
#include "modes.hpp"

namespace AGF_SPACE {

namespace {

class DirectionAlternation {
 public:
  AGF_CORE DirectionAlternation(const Problem& problem, Backend& backend, Control& control, const State& start,
                                const AlternateOptions& options)
      : problem_(problem),
        backend_(backend),
        control_(control),
        options_(options),
        state_(start),
        drift_(problem),
        residual_(problem.make_signal()) {
    state_.components = {};
    if (std::isnan(state_.log_eta)) state_.log_eta = log_mean_threshold(state_, 2);
  }

  AGF_CORE Trajectory go() {
    const bool done = uninterrupted([this]() {
      begin();
      loop();
    });
    if (!done) {
      path_.status = control_.stop;
      if (directions_.params == 0) return std::move(unbegun(problem_, state_, path_));
    }
    if (path_.points.empty()) path_.points.push_back({state_.time, state_.scaled_time, refresh(), state_.time});
    directions_.write(state_);
    path_.state = state_;
    if (drift_.has()) path_.conserved_drift = drift_.worst();
    path_.stats.seconds = control_.seconds();
    return std::move(path_);
  }

 private:
  const Problem& problem_;
  Backend& backend_;
  Control& control_;
  const AlternateOptions& options_;
  Trajectory path_;
  State state_;
  Drift drift_;
  Directions directions_;
  Owned<Signal> residual_;
  bool structured_ = false;  // the frame of the faint columns is that of an earlier residual
  Array<int> order_;         // of each visible column, when it activated
  double left_over_ = 0, tolerance_ = 0, loss_ = 0;

  AGF_CORE void begin() {
    directions_ = Directions::of(state_, structured_);
    if (directions_.learned < 0) {
      // Left by a flow.
      Directions all = directions_;
      all.hide();
      all.orthogonalize();
      directions_ = std::move(all);
      directions_.learned = 0;
    }
    if (directions_.learned == 0)
      while (directions_.count() > 0 && directions_.log_norm(0) >= 0) {
        directions_.show(0, directions_.log_norm(0));
        ++directions_.learned;
      }
    order_.resize(directions_.visible_count());
    std::iota(order_.begin(), order_.end(), directions_.learned - static_cast<int>(order_.size()));
  }

  AGF_CORE double refresh() {
    return loss_ = problem_.residual(directions_.visible.data(), directions_.visible_count(), *residual_);
  }

  // Active columns as neurons of their own, to equilibrium. One that falls dormant goes back among the others.
  AGF_CORE ActiveOutcome phase(double longest, double onset) {
    const std::size_t m = directions_.params, k = directions_.visible_count();
    State columns;
    columns.count = k;
    columns.params = m;
    columns.direction = directions_.visible;
    columns.log_norm.resize(k);
    columns.active.assign(k, 1);
    {
      double *const u = columns.direction.data(), *const log_norm = columns.log_norm.data();
      each_task(k, [=](std::size_t j) {
        const double length = norm(m, u + j * m);
        for (std::size_t e = 0; e < m; ++e) u[j * m + e] /= length;
        log_norm[j] = std::log(length);
      });
    }
    const ActiveOptions active{options_.rtol, false, longest, options_.loss_tol, onset};
    ActiveOutcome outcome;
    // Broken off, nothing of the phase is kept: it begins again.
    uninterrupted([&]() { outcome = minimize(problem_, backend_, control_, path_.stats, drift_, active, columns); });
    path_.stats.active_time.push_back(outcome.elapsed);
    state_.phase_elapsed = control_.stopping ? options_.active_time - longest + outcome.elapsed : infinity;
    if (!std::isfinite(options_.active_time) && control_.stopping) state_.phase_elapsed = 0;
    double longest_norm = 0;
    for (double log_norm : columns.log_norm) longest_norm = std::max(longest_norm, log_norm);
    left_over_ = outcome.converged ? outcome.gradient_norm * std::exp(-longest_norm) : 0;
    if (outcome.failed) path_.note(Note::step_failed);
    if (outcome.exhausted) path_.note(Note::active_phase_work_limit);
    {
      const double *const u = columns.direction.data(), *const log_norm = columns.log_norm.data();
      double* const visible = directions_.visible.data();
      each_task(k, [=](std::size_t j) {
        const double length = std::exp(log_norm[j]);
        for (std::size_t e = 0; e < m; ++e) visible[j * m + e] = length * u[j * m + e];
      });
    }
    for (int& returned : outcome.returned) returned = order_[static_cast<std::size_t>(returned)];
    if (!outcome.returned.empty()) {
      Directions staying = directions_;
      directions_.hide();
      const std::size_t before = directions_.count() - k;
      // From the back, so that places stay valid.
      for (std::size_t j = k; j-- > 0;) {
        if (columns.active[j]) {
          cut(directions_.faint, (before + j) * m, m);
          cut(directions_.neuron, (before + j) * directions_.neurons, directions_.neurons);
        } else {
          cut(staying.visible, j * m, m);
          cut(staying.visible_neuron, j * directions_.neurons, directions_.neurons);
          cut(order_, j, 1);
        }
      }
      directions_.visible = std::move(staying.visible);
      directions_.visible_neuron = std::move(staying.visible_neuron);
    }
    return outcome;
  }

  AGF_CORE void loop() {
    refresh();
    path_.points.push_back({state_.time, state_.scaled_time, loss_, state_.time});
    const bool any_active = directions_.visible_count() > 0;
    if (!any_active && !(loss_ > 0)) {
      path_.status = Status::nothing_to_learn;
      return;
    }
    const auto target = problem_.make_signal();
    problem_.residual(nullptr, 0, *target);
    tolerance_ = 0.5 * inert_part * modes(problem_, backend_, path_.stats, *target).rate.back();
    if (any_active && std::isfinite(state_.phase_elapsed) && state_.phase_elapsed < options_.active_time &&
        loss_ > options_.loss_tol) {
      phase(options_.active_time - state_.phase_elapsed, 0);
      // The clock starts on the plateau that this phase ends on.
      path_.points.back().loss = refresh();
    }
    while (!finished()) {
      if (!jump()) return;
    }
  }

  AGF_CORE bool finished() {
    if (control_.poll()) {
      path_.status = control_.stop;
    } else if (!std::isfinite(loss_)) {
      path_.status = Status::non_finite;
    } else if (loss_ <= options_.loss_tol) {
      path_.status = Status::loss_tol;
    } else if (directions_.count() == 0) {
      path_.status = Status::all_active;
    } else if (options_.max_jumps >= 0 && path_.jumps.size() >= static_cast<std::size_t>(options_.max_jumps)) {
      path_.status = Status::max_jumps;
    } else {
      return false;
    }
    return true;
  }

  // False where the run ends instead.
  AGF_CORE bool jump() {
    const Modes now = modes(problem_, backend_, path_.stats, *residual_);
    adopt(directions_, now, nullptr, structured_);
    structured_ = true;
    double least = std::max({tolerance_, 3 * left_over_, least_utility});
    // Every direction is in sight of what a converged phase left of the residual: that is not there to be learned.
    if (directions_.visible_count() > 0)
      least = std::max(least, residual_error(problem_) * std::sqrt(2 * loss_) * problem_.input_scale());
    // U = beta / 2 at a unit eigenvector.
    const double finish = Growth(directions_, now.rate, backend_).crossing(0, 2 * least);
    if (!std::isfinite(finish)) {
      path_.status = Status::inert;
      return false;
    }
    if (control_.poll()) {
      path_.status = control_.stop;
      return false;
    }
    Growth growth(directions_, now.rate, backend_);
    double slope = 0;
    Array<double> logs;
    growth.at(finish, slope, &logs);
    Directions then = directions_;
    then.grow(now.rate, finish);
    then.orthogonalize();
    directions_ = std::move(then);
    pass(state_, std::log(finish));

    Jump jump;
    jump.time = state_.time;
    jump.scaled_time = state_.scaled_time;
    jump.neuron = directions_.learned;
    jump.direction = directions_.direction(0);
    jump.loss_before = loss_;
    Array<double> gradient(directions_.params);
    Array<double> utility(1);
    problem_.utility(jump.direction.data(), 1, *residual_, utility.data(), gradient.data(), Shape{true, nullptr});
    jump.utility = utility[0];
    ++path_.stats.evaluations;
    const double steepest = norm(gradient.size(), gradient.data());
    jump.alignment = steepest > 0 ? dot(gradient.size(), jump.direction.data(), gradient.data()) / steepest : 0;
    // Those that cross with it do so at norm 1; those within the window at their own.
    const double together = std::max(tie * finish * slope, 1e-14);
    for (std::size_t j = 0; j < logs.size() && directions_.count() > 0; ++j) {
      const double behind = logs[0] - logs[j];
      if (j > 0 && behind > together && (options_.activation_window <= 0 || behind > options_.activation_window)) break;
      directions_.show(0, behind <= together && finish > 0 ? 0 : directions_.log_norm(0));
      order_.push_back(directions_.learned);
      jump.activated.push_back(directions_.learned++);
    }
    jump.gap = 1;
    const double next = Growth(directions_, now.rate, backend_).crossing(0, 2 * least);
    if (std::isfinite(next)) {
      const double scaled = next * std::exp(-state_.log_eta);
      jump.gap = scaled / (state_.scaled_time + scaled);
    }
    const ActiveOutcome outcome = phase(options_.active_time, jump.utility > 0 ? 0.5 / jump.utility : 0);
    jump.returned = outcome.returned;
    jump.converged = outcome.converged;
    jump.gradient_norm = outcome.gradient_norm;
    jump.active_time = outcome.elapsed;
    jump.relaxation = outcome.relaxation;
    jump.loss_after = refresh();
    directions_.write(state_);
    jump.state = state_;
    path_.points.push_back({state_.time, state_.scaled_time, loss_, state_.time});
    path_.jumps.push_back(std::move(jump));
    if (std::isfinite(loss_) && options_.observer && options_.observer(path_.jumps.back())) {
      path_.status = Status::callback;
      return false;
    }
    return true;
  }
};

}  // namespace

AGF_CORE AGF_APART Trajectory alternate_directions(const Problem& problem, Backend& backend, Control& control,
                                                   const State& start, const AlternateOptions& options) {
  const Listening listening(control);
  return DirectionAlternation(problem, backend, control, start, options).go();
}

}  // namespace AGF_SPACE
