#include "alternate.hpp"

#include <algorithm>
#include <cmath>

#include "active.hpp"
#include "clock.hpp"
#include "dormant.hpp"
#include "frame.hpp"
#include "interrupt.hpp"
#include "linear_race.hpp"

namespace AGF_SPACE {

namespace {

// Utility of a neuron at rest below which nothing can be learned.
AGF_CORE double inert_utility(const Problem& problem, const State& state, Signal& target) {
  problem.residual(nullptr, 0, target);
  Array<double> gradient(state.count * state.params);
  problem.utility(state.direction.data(), state.count, target, nullptr, gradient.data(), Shape{true, nullptr});
  const std::size_t m = state.params;
  const double* const g = gradient.data();
  const double most = largest(state.count, m, [=](std::size_t i) { return positive(norm(m, g + i * m)); });
  return std::max(inert_part, 100 * problem.epsilon()) * most;
}

AGF_CORE Array<double> active_parameters(const State& state) {
  Array<int> members;
  for (std::size_t i = 0; i < state.count; ++i)
    if (state.active[i]) members.push_back(static_cast<int>(i));
  return gather(state, members);
}

// How far the next dormant neuron was from being first: (t_2 - t_1) / t_2 with t_2 the scaled time at which it would
// cross if its utility stayed as it is. Neurons at norm 1 or above come at once.
AGF_CORE double gap(const Problem& problem, Stats& stats, const Signal& residual, double degree, const State& state,
                    const Array<int>& members, const Array<int>& activated) {
  Array<int> others;
  for (int i : members)
    if (std::find(activated.begin(), activated.end(), i) == activated.end()) others.push_back(i);
  if (others.empty()) return 1;
  const std::size_t m = state.params;
  Array<double> directions(others.size() * m), utilities(others.size()), times(others.size());
  const int* const from = others.data();
  const double *const u = state.direction.data(), *const log_norm = state.log_norm.data();
  double *const direction = directions.data(), *const utility = utilities.data(), *const time = times.data();
  each(others.size(), m, [=](std::size_t k) {
    const auto at = static_cast<std::size_t>(from[k]);
    for (std::size_t e = 0; e < m; ++e) direction[k * m + e] = u[at * m + e];
  });
  problem.utility(direction, others.size(), residual, utility, nullptr, Shape{true, nullptr});
  ++stats.evaluations;
  const double kappa = problem.kappa(), log_eta = state.log_eta;
  constexpr std::size_t functions = 32;  // their work
  each(others.size(), functions, [=](std::size_t k) {
    const double distance = log_threshold(log_norm[from[k]], degree) - log_eta;
    time[k] = utility[k] > 0 ? std::exp(distance) / (kappa * utility[k]) : infinity;
  });
  double least = infinity;
  for (const double t : times) least = std::min(least, t);
  return std::isfinite(least) ? least / (state.scaled_time + least) : 1;
}

}  // namespace

AGF_CORE AGF_APART Trajectory alternate(const Problem& given, Backend& backend, Control& control, const State& start,
                                        const AlternateOptions& options) {
  const Listening listening(control);
  const Frame frame(given, start);
  const Problem& problem = frame.problem();
  const double degree = options.adaptive_rate ? 2 : problem.kappa();
  State state = frame.inward(start);
  if (std::isnan(state.log_eta)) state.log_eta = log_mean_threshold(state, degree);
  const bool linear = linear_race_applies(problem);
  Components& components = state.components;
  if (!linear || !components.fits(state.count, state.params)) components.reset(state.count, state.params);

  Array<char> contracted(state.count, 0);

  Trajectory path;
  Stats& stats = path.stats;
  Drift drift(problem);
  auto residual = problem.make_signal(), target = problem.make_signal();
  double tolerance = 0;
  auto refresh = [&]() {
    const auto theta = active_parameters(state);
    return problem.residual(theta.data(), theta.size() / problem.params(), *residual);
  };
  double left_over = 0;
  auto minimized = [&](double longest, double onset) {
    ActiveOptions active{options.rtol, options.adaptive_rate, longest, options.loss_tol, onset};
    ActiveOutcome outcome;
    // Broken off, nothing of the phase is kept: it begins again.
    uninterrupted([&]() { outcome = minimize(problem, backend, control, stats, drift, active, state); });
    stats.active_time.push_back(outcome.elapsed);
    // A phase broken off from outside is taken up where it stopped.
    state.phase_elapsed = control.stopping ? options.active_time - longest + outcome.elapsed : infinity;
    if (!std::isfinite(options.active_time) && control.stopping) state.phase_elapsed = 0;
    double longest_norm = 0;
    for (std::size_t i = 0; i < state.count; ++i)
      if (state.active[i]) longest_norm = std::max(longest_norm, state.log_norm[i]);
    // As a utility of unit directions.
    left_over = outcome.converged ? outcome.gradient_norm * std::exp((1 - problem.kappa()) * longest_norm) : 0;
    if (outcome.failed) path.note(Note::step_failed);
    if (outcome.exhausted) path.note(Note::active_phase_work_limit);
    return outcome;
  };

  double loss = 0;
  const bool begun = uninterrupted([&]() {
    loss = refresh();
    path.points.push_back({state.time, state.scaled_time, loss, state.time});
    tolerance = inert_utility(problem, state, *target);
  });
  if (!begun) {
    path.status = control.stop;
    path.state = start;
    if (path.points.empty()) path.points.push_back({state.time, state.scaled_time, refresh(), state.time});
    return path;
  }
  const bool any_active = std::find(state.active.begin(), state.active.end(), 1) != state.active.end();
  if (!any_active && !(loss > 0)) {
    path.status = Status::nothing_to_learn;
  } else {
    if (any_active && std::isfinite(state.phase_elapsed) && state.phase_elapsed < options.active_time &&
        loss > options.loss_tol) {
      minimized(options.active_time - state.phase_elapsed, 0);
      loss = refresh();
      // The clock starts on the plateau that this phase ends on.
      path.points.back().loss = loss;
    }
    for (;;) {
      if (control.poll()) {
        path.status = control.stop;
        break;
      }
      if (!std::isfinite(loss)) {
        path.status = Status::non_finite;
        break;
      }
      if (loss <= options.loss_tol) {
        path.status = Status::loss_tol;
        break;
      }
      Array<int> members;
      Array<Dormant> dormant;
      for (std::size_t i = 0; i < state.count; ++i)
        if (!state.active[i]) {
          members.push_back(static_cast<int>(i));
          const double* row = &state.direction[i * state.params];
          dormant.push_back({Array<double>(row, row + state.params), state.log_norm[i], 0, contracted[i] != 0});
        }
      if (members.empty()) {
        path.status = Status::all_active;
        break;
      }
      if (options.max_jumps >= 0 && path.jumps.size() >= static_cast<std::size_t>(options.max_jumps)) {
        path.status = Status::max_jumps;
        break;
      }

      RaceOptions race_options;
      race_options.clock = degree;
      race_options.rtol = options.rtol;
      // Utilities below what a converged phase left of the gradient are not there to be learned.
      race_options.inert = std::max({tolerance, 3 * left_over, least_utility});
      // A neuron that carries every direction finds the last bits of the residual too: they are not there to be
      // learned.
      if (linear && members.size() < state.count)
        race_options.inert =
            std::max(race_options.inert, residual_error(problem) * std::sqrt(2 * loss) * problem.input_scale());
      const RaceOutcome won =
          linear ? linear_race(problem, backend, control, stats, *residual, race_options, members, dormant, components)
                 : race(problem, backend, control, stats, *residual, race_options, dormant);
      if (won.unresolved) path.note(Note::direction_unresolved);
      if (won.end == RaceEnd::stopped) {
        path.status = control.stop;
        break;
      }
      if (won.end != RaceEnd::crossed) {
        path.status = won.end == RaceEnd::exhausted ? Status::work_limit : Status::inert;
        break;
      }

      const std::size_t m = state.params;
      Array<const double*> arrived(members.size());
      for (std::size_t k = 0; k < members.size(); ++k) arrived[k] = dormant[k].direction.data();
      const double* const* const from = arrived.data();
      const int* const place = members.data();
      double* const direction = state.direction.data();
      each(members.size(), m, [=](std::size_t k) {
        double* const to = direction + static_cast<std::size_t>(place[k]) * m;
        for (std::size_t e = 0; e < m; ++e) to[e] = from[k][e];
      });
      for (std::size_t k = 0; k < members.size(); ++k) {
        const auto i = static_cast<std::size_t>(members[k]);
        state.log_norm[i] = dormant[k].log_norm;
        contracted[i] = dormant[k].contracted;
      }
      pass(state, won.log_elapsed);
      Jump jump;
      jump.time = state.time;
      jump.scaled_time = state.scaled_time;
      jump.neuron = members[static_cast<std::size_t>(won.winners.front())];
      jump.utility = won.utility;
      jump.alignment = won.alignment;
      jump.direction =
          frame.outward(jump.neuron, &state.direction[static_cast<std::size_t>(jump.neuron) * state.params]);
      jump.loss_before = loss;
      for (int k : won.winners) {
        jump.activated.push_back(members[static_cast<std::size_t>(k)]);
        state.log_norm[static_cast<std::size_t>(jump.activated.back())] = 0;
      }
      if (options.activation_window > 0)
        for (int i : members)
          if (state.log_norm[static_cast<std::size_t>(i)] >= -options.activation_window &&
              std::find(jump.activated.begin(), jump.activated.end(), i) == jump.activated.end())
            jump.activated.push_back(i);
      jump.gap = gap(problem, stats, *residual, degree, state, members, jump.activated);
      for (int i : jump.activated) {
        state.active[static_cast<std::size_t>(i)] = 1;
        components.forget(i, state.params);
        contracted[static_cast<std::size_t>(i)] = 0;
      }

      const ActiveOutcome outcome =
          minimized(options.active_time, won.utility > 0 ? 1 / (problem.kappa() * won.utility) : 0);
      jump.returned = outcome.returned;
      jump.converged = outcome.converged;
      jump.gradient_norm = outcome.gradient_norm;
      jump.active_time = outcome.elapsed;
      jump.relaxation = outcome.relaxation;
      loss = refresh();
      jump.loss_after = loss;
      jump.state = frame.outward(state);
      path.points.push_back({state.time, state.scaled_time, loss, state.time});
      path.jumps.push_back(std::move(jump));
      if (!std::isfinite(loss)) {
        path.status = Status::non_finite;
        break;
      }
      if (options.observer && options.observer(path.jumps.back())) {
        path.status = Status::callback;
        break;
      }
    }
  }
  path.state = frame.outward(state);
  if (drift.has()) path.conserved_drift = drift.worst();
  stats.seconds = control.seconds();
  return path;
}

}  // namespace AGF_SPACE
