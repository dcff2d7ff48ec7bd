#include "active.hpp"

#include <algorithm>
#include <cmath>

namespace agf {

namespace {

// The phase is over when |grad L|^2 t, a bound on what is left to gain on a power-law approach, is below this part of
// the loss. A gain of e L is a change of the residual by sqrt(e): 1e-8 would leave the utilities of the next race, and
// so its times, wrong by 1e-4.
constexpr double equilibrium = 1e-16;
// Some limits lie at infinity (a valley along which neurons drift for ever, the loss falling like ln t): the phase is
// given up after this many steps that each found the bound below `late` of the loss.
constexpr double late = 1e-5;
// At tight tolerances the implicit method follows a curved valley in steps of sqrt(rtol) of its length, so a phase
// without end must have one: measured, phases that reach equilibrium take up to about 2,000 implicit steps at rtol
// 1e-9.
constexpr long most_late_steps = 300, most_implicit_steps = 5000, most_explicit_steps = 200000;
// A kinked sigma is followed in far shorter steps, each across or along a kink.
constexpr long most_kinked_steps = 200000;
// So many steps on end that each took less than rounding off the loss: nothing is left that can be seen.
constexpr long most_idle_steps = 30;
// The bound below which a phase may call itself converged, however it ended.
constexpr double converged = 1e-8;

std::vector<double> gather(const State& state, const std::vector<int>& members) {
  std::vector<double> theta;
  theta.reserve(members.size() * state.params);
  for (int i : members) {
    const auto at = static_cast<std::size_t>(i);
    const double scale = std::exp(state.log_norm[at]);
    for (std::size_t e = 0; e < state.params; ++e) theta.push_back(scale * state.direction[at * state.params + e]);
  }
  return theta;
}

void scatter(State& state, const std::vector<int>& members, const std::vector<double>& theta) {
  const std::size_t m = state.params;
  for (std::size_t k = 0; k < members.size(); ++k) {
    const auto at = static_cast<std::size_t>(members[k]);
    const double length = norm(m, &theta[k * m]);
    for (std::size_t e = 0; e < m; ++e) state.direction[at * m + e] = theta[k * m + e] / length;
    state.log_norm[at] = std::log(length);
  }
}

// Zero in (0, 1] of a function positive at 0 and negative at 1, by the Illinois method.
template <typename Function>
double root(double at_low, double at_high, Function&& function) {
  double low = 0, high = 1;
  if (!std::isfinite(at_low) || !std::isfinite(at_high)) return 1;
  int side = 0;
  for (int i = 0; i < 60 && high - low > 1e-11; ++i) {
    const double middle = std::clamp((low * at_high - high * at_low) / (at_high - at_low), low, high);
    const double value = function(middle);
    if (std::abs(value) < 1e-9) return middle;
    if (value > 0) {
      low = middle;
      at_low = value;
      if (side > 0) at_high *= 0.5;
      side = 1;
    } else {
      high = middle;
      at_high = value;
      if (side < 0) at_low *= 0.5;
      side = -1;
    }
  }
  return high;
}

}  // namespace

double residual_error(const Problem& problem) { return std::sqrt(std::max(equilibrium, problem.epsilon())); }

ActiveOutcome minimize(const Problem& problem, Backend& backend, Control& control, Stats& stats, Drift& drift,
                       const ActiveOptions& options, State& state) {
  const std::size_t m = state.params;
  std::vector<int> members;
  for (std::size_t i = 0; i < state.count; ++i)
    if (state.active[i]) members.push_back(static_cast<int>(i));

  ActiveOutcome outcome;
  Coupled flow(problem, backend, control, stats, {options.rtol, options.adaptive_rate});
  flow.reset(gather(state, members), {});
  drift.begin(flow.theta());
  double onset = options.onset;
  if (onset <= 0) {
    double rate = 0;
    for (std::size_t k = 0; k < members.size(); ++k)
      rate = std::max(rate, norm(m, &flow.gradient()[k * m]) / norm(m, &flow.theta()[k * m]));
    onset = rate > 0 ? 1 / rate : 0;
  }

  // Times follow the residual, whose relative error is the root of this and can weigh twenty times as much in a small
  // utility: below rtol, as far as rounding lets it be.
  const double rest = std::min(std::max(equilibrium, problem.epsilon()),
                               std::max(std::pow(0.02 * options.rtol, 2), std::pow(100 * problem.epsilon(), 2)));

  // ln of how far the fastest growth of a norm, kept up for as long as the phase has lasted, would take it, against a
  // half: above 0 a neuron is still coming up, however little of the loss that is yet (it may be small beside L for
  // ever where |y| and |x| are of very different size).
  auto growing = [&](const std::vector<double>& theta, const std::vector<double>& gradient, double elapsed) {
    double rate = 0;
    for (std::size_t e = 0; e < theta.size(); e += m)
      rate = std::max(rate, dot(m, &theta[e], &gradient[e]) / dot(m, &theta[e], &theta[e]));
    return std::log(2 * rate * (elapsed + onset));
  };

  // What ends the phase or changes its members, as ln(quantity / threshold): below 0, it has happened.
  auto events = [&](const std::vector<double>& theta, const std::vector<double>& gradient, double loss, double elapsed,
                    std::vector<char>* leaving) {
    // A thousandth below, so that the tolerance is met whatever the error of the landing.
    double first = std::log(loss / (0.999 * options.loss_tol));
    const double left = dot(theta.size(), gradient.data(), gradient.data()) * (elapsed + onset);
    first = std::min(first, std::max(std::log(left / (rest * loss)), growing(theta, gradient, elapsed)));
    for (std::size_t k = 0; k < members.size(); ++k) {
      const double* x = &theta[k * m];
      if (leaving) (*leaving)[k] = 0;
      if (norm(m, x) >= 1 || dot(m, x, &gradient[k * m]) >= 0) continue;
      double part = 0;
      problem.contribution(x, 1, &part);
      const double margin = std::log(part / (options.rtol * std::sqrt(2 * loss)));
      first = std::min(first, margin);
      if (leaving) (*leaving)[k] = margin <= 1e-6;
    }
    return std::isnan(first) ? -infinity : first;
  };

  struct Passed {
    double time, loss;
  };
  std::vector<Passed> course{{0, flow.loss()}};
  long late_steps = 0, idle_steps = 0;
  double idle_square = 0;
  bool implicit = flow.implicit();
  for (long steps = 0;; ++steps) {
    // Each method has its own limit; between kinks they take turns and have one.
    if (flow.implicit() != implicit && !problem.kinked()) {
      implicit = flow.implicit();
      steps = 0;
    }
    if (members.empty()) {
      outcome.converged = true;
      break;
    }
    std::vector<char> leaving(members.size());
    double before = events(flow.theta(), flow.gradient(), flow.loss(), outcome.elapsed, &leaving);
    if (before <= 1e-6) {
      std::vector<int> stay;
      for (std::size_t k = 0; k < members.size(); ++k)
        if (!leaving[k]) stay.push_back(members[k]);
      if (stay.size() == members.size()) {
        outcome.converged = true;
        break;
      }
      scatter(state, members, flow.theta());
      for (std::size_t k = 0; k < members.size(); ++k)
        if (leaving[k]) {
          // Its fall below norm 1 belongs to the clock that follows.
          const auto i = static_cast<std::size_t>(members[k]);
          state.active[i] = 0;
          state.log_norm[i] = 0;
          outcome.returned.push_back(members[k]);
        }
      members = stay;
      const double hint = flow.step_hint();
      flow.reset(gather(state, members), {});
      flow.set_step_hint(hint);
      drift.begin(flow.theta());
      continue;
    }
    const double left = options.time - outcome.elapsed;
    if (!(left > 0)) break;
    const bool grown = growing(flow.theta(), flow.gradient(), outcome.elapsed) <= 0;
    if (grown && flow.implicit() && flow.gradient_square() * (outcome.elapsed + onset) < late * flow.loss())
      ++late_steps;
    if (grown && idle_steps > most_idle_steps) break;
    const long most_steps = !flow.implicit()   ? most_explicit_steps
                            : problem.kinked() ? most_kinked_steps
                                               : most_implicit_steps;
    if (steps >= most_steps || (late_steps > most_late_steps && !std::isfinite(options.time))) {
      outcome.exhausted = true;
      break;
    }
    double moved = 0;
    const double loss_before = flow.loss();
    auto step = flow.advance(left, left, moved);
    if (step == Coupled::Step::accepted) {
      const double after = events(flow.theta(), flow.gradient(), flow.loss(), outcome.elapsed + moved, nullptr);
      if (after < 0) {
        // The moment itself, not the end of the step that it fell in: what follows must not depend on the step sizes.
        const double s = root(before, after, [&](double at) {
          std::vector<double> theta, gradient;
          std::vector<Dormant> none;
          flow.between(at, theta, none);
          const double loss = flow.look(theta, gradient);
          return events(theta, gradient, loss, outcome.elapsed + at * moved, nullptr);
        });
        if (s < 1) step = flow.shorten(s, moved);
      }
    }
    if (step == Coupled::Step::stopped) break;
    if (step == Coupled::Step::failed) {
      outcome.failed = true;
      break;
    }
    // To the last bit at the end, whatever rounding made of the sum.
    outcome.elapsed = moved == left ? options.time : outcome.elapsed + moved;
    idle_steps = flow.loss() < loss_before * (1 - 2 * problem.epsilon()) ? 0 : idle_steps + 1;
    // The gradient still tells what the loss no longer does.
    if (idle_steps <= 1 || flow.gradient_square() < 0.5 * idle_square) {
      idle_steps = std::min(idle_steps, 1L);
      idle_square = flow.gradient_square();
    }
    drift.look(flow.theta());
    course.push_back({outcome.elapsed, flow.loss()});
  }
  if (flow.gradient_square() * (outcome.elapsed + onset) <= converged * flow.loss() &&
      growing(flow.theta(), flow.gradient(), outcome.elapsed) <= 0)
    outcome.converged = true;
  scatter(state, members, flow.theta());
  outcome.gradient_norm = std::sqrt(flow.gradient_square());
  // The hand-over may raise the loss: what falls is counted from its highest.
  const auto top =
      std::max_element(course.begin(), course.end(), [](const Passed& a, const Passed& b) { return a.loss < b.loss; });
  const double end = course.back().loss, tenth = end + 0.1 * (top->loss - end);
  for (auto now = top; now != course.end(); ++now) {
    if (now->loss > tenth) continue;
    const auto last = now == top ? now : now - 1;
    const double part = last->loss > now->loss ? (last->loss - tenth) / (last->loss - now->loss) : 0;
    outcome.relaxation = last->time + part * (now->time - last->time);
    break;
  }
  return outcome;
}

}  // namespace agf
