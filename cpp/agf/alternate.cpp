#include "alternate.hpp"

#include <algorithm>
#include <cmath>

#include "active.hpp"
#include "clock.hpp"
#include "dormant.hpp"
#include "frame.hpp"
#include "interrupt.hpp"
#include "linear_race.hpp"

namespace agf {

namespace {

// Utility of a neuron at rest, relative to the largest utility gradient at the start, below which nothing can be
// learned.
constexpr double inert = 1e-10;

double inert_utility(const Problem& problem, const State& state, Signal& target) {
  problem.residual(nullptr, 0, target);
  std::vector<double> gradient(state.count * state.params);
  problem.utility(state.direction.data(), state.count, target, nullptr, gradient.data(), Shape{true, nullptr});
  double largest = 0;
  for (std::size_t i = 0; i < state.count; ++i)
    largest = std::max(largest, norm(state.params, &gradient[i * state.params]));
  return std::max(inert, 100 * problem.epsilon()) * largest;
}

// What a race may still take for zero. Least of all so that it is not zero where nothing can be learned at all.
constexpr double least_utility = 1e-300;

std::vector<double> active_parameters(const State& state) {
  std::vector<double> theta;
  for (std::size_t i = 0; i < state.count; ++i)
    if (state.active[i])
      for (std::size_t e = 0; e < state.params; ++e)
        theta.push_back(std::exp(state.log_norm[i]) * state.direction[i * state.params + e]);
  return theta;
}

// How far the next dormant neuron was from being first: (t_2 - t_1) / t_2 with t_2 the scaled time at which it would
// cross if its utility stayed as it is. Neurons at norm 1 or above come at once.
double gap(const Problem& problem, Stats& stats, const Signal& residual, double degree, const State& state,
           const std::vector<int>& members, const std::vector<int>& activated) {
  std::vector<double> direction, distance;
  for (int i : members) {
    if (std::find(activated.begin(), activated.end(), i) != activated.end()) continue;
    const auto row = static_cast<std::size_t>(i);
    direction.insert(direction.end(), &state.direction[row * state.params], &state.direction[(row + 1) * state.params]);
    distance.push_back(log_threshold(state.log_norm[row], degree) - state.log_eta);
  }
  if (distance.empty()) return 1;
  std::vector<double> utility(distance.size());
  problem.utility(direction.data(), distance.size(), residual, utility.data(), nullptr, Shape{true, nullptr});
  ++stats.evaluations;
  double least = infinity;
  for (std::size_t k = 0; k < distance.size(); ++k)
    if (utility[k] > 0) least = std::min(least, std::exp(distance[k]) / (problem.kappa() * utility[k]));
  return std::isfinite(least) ? least / (state.scaled_time + least) : 1;
}

}  // namespace

Trajectory alternate(const Problem& given, Backend& backend, Control& control, const State& start,
                     const AlternateOptions& options) {
  // Once only: what it takes to leave in order may call kernels again.
  const std::function<bool()> ask = [&control]() { return !control.stopping && control.poll(); };
  const InterruptionScope scope(ask);
  const Frame frame(given, start);
  const Problem& problem = frame.problem();
  const double degree = options.adaptive_rate ? 2 : problem.kappa();
  State state = frame.inward(start);
  if (std::isnan(state.log_eta)) state.log_eta = log_mean_threshold(state, degree);
  const bool linear = linear_race_applies(problem);
  Components& components = state.components;
  if (!linear || !components.fits(state.count, state.params)) components.reset(state.count, state.params);

  std::vector<char> contracted(state.count, 0);

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
    try {
      outcome = minimize(problem, backend, control, stats, drift, active, state);
    } catch (const Interrupted&) {
      // Nothing of the phase was kept: it begins again.
    }
    stats.active_time.push_back(outcome.elapsed);
    // A phase broken off from outside is taken up where it stopped.
    state.phase_elapsed = control.stopping ? options.active_time - longest + outcome.elapsed : infinity;
    if (!std::isfinite(options.active_time) && control.stopping) state.phase_elapsed = 0;
    double longest_norm = 0;
    for (std::size_t i = 0; i < state.count; ++i)
      if (state.active[i]) longest_norm = std::max(longest_norm, state.log_norm[i]);
    // As a utility of unit directions.
    left_over = outcome.converged ? outcome.gradient_norm * std::exp((1 - problem.kappa()) * longest_norm) : 0;
    if (outcome.failed) path.note("step_failed");
    if (outcome.exhausted) path.note("active_phase_work_limit");
    return outcome;
  };

  double loss = 0;
  try {
    loss = refresh();
    path.points.push_back({state.time, state.scaled_time, loss, state.time});
    tolerance = inert_utility(problem, state, *target);
  } catch (const Interrupted&) {
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
      std::vector<int> members;
      std::vector<Dormant> dormant;
      for (std::size_t i = 0; i < state.count; ++i)
        if (!state.active[i]) {
          members.push_back(static_cast<int>(i));
          const double* row = &state.direction[i * state.params];
          dormant.push_back({std::vector<double>(row, row + state.params), state.log_norm[i], 0, contracted[i] != 0});
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
      if (won.unresolved) path.note("direction_unresolved");
      if (won.end == RaceEnd::stopped) {
        path.status = control.stop;
        break;
      }
      if (won.end != RaceEnd::crossed) {
        path.status = won.end == RaceEnd::exhausted ? Status::work_limit : Status::inert;
        break;
      }

      for (std::size_t k = 0; k < members.size(); ++k) {
        const auto i = static_cast<std::size_t>(members[k]);
        std::copy(dormant[k].direction.begin(), dormant[k].direction.end(), &state.direction[i * state.params]);
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

}  // namespace agf
