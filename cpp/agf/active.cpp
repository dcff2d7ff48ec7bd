#include "active.hpp"

#include <algorithm>
#include <cmath>

namespace AGF_SPACE {

namespace {

// The phase is over when |grad L|^2 t, a bound on what is left to gain on a power-law approach, is below this part of
// the loss. A gain of e L is a change of the residual by sqrt(e): 1e-8 would leave the utilities of the next race, and
// so its times, wrong by 1e-4.
AGF_TABLE double equilibrium = 1e-16;
// Some limits lie at infinity (a valley along which neurons drift for ever, the loss falling like ln t): the phase is
// given up after this many steps that each found the bound below `late` of the loss.
AGF_TABLE double late = 1e-5;
// At tight tolerances the implicit method follows a curved valley in steps of sqrt(rtol) of its length, so a phase
// without end must have one: measured, phases that reach equilibrium take up to about 2,000 implicit steps at rtol
// 1e-9.
AGF_TABLE long most_late_steps = 300, most_implicit_steps = 5000, most_explicit_steps = 200000;
// A kinked sigma is followed in far shorter steps, each across or along a kink.
AGF_TABLE long most_kinked_steps = 200000;
// So many steps on end that each took less than rounding off the loss: nothing is left that can be seen.
AGF_TABLE long most_idle_steps = 30;
// The bound below which a phase may call itself converged, however it ended.
AGF_TABLE double converged = 1e-8;

// What of the neurons says how far a phase is.
struct Look {
  double growth = 0;   // the fastest relative growth of a norm
  double square = 0;   // |grad L|^2
  bool falls = false;  // a neuron below norm 1 shrinks
};

AGF_CORE Look look_at(std::size_t m, const Array<double>& theta, const Array<double>& gradient) {
  const double *const x = theta.data(), *const g = gradient.data();
  const std::size_t count = theta.size() / m;
  Look look;
  look.growth = largest(count, 2 * m, [=](std::size_t k) {
    return positive(dot(m, x + k * m, g + k * m) / dot(m, x + k * m, x + k * m));
  });
  look.square = long_dot(gradient.size(), g, g);
  look.falls =
      !every(count, 2 * m, [=](std::size_t k) { return norm(m, x + k * m) >= 1 || dot(m, x + k * m, g + k * m) >= 0; });
  return look;
}

// Zero in (0, 1] of a function positive at 0 and negative at 1, by the Illinois method.
template <typename Function>
AGF_CORE double root(double at_low, double at_high, Function&& function) {
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

AGF_CORE double residual_error(const Problem& problem) { return std::sqrt(std::max(equilibrium, problem.epsilon())); }

AGF_CORE AGF_APART ActiveOutcome minimize(const Problem& problem, Backend& backend, Control& control, Stats& stats,
                                          Drift& drift, const ActiveOptions& options, State& state) {
  const std::size_t m = state.params;
  Array<int> members;
  for (std::size_t i = 0; i < state.count; ++i)
    if (state.active[i]) members.push_back(static_cast<int>(i));

  ActiveOutcome outcome;
  Coupled flow(problem, backend, control, stats, {options.rtol, options.adaptive_rate});
  flow.reset(gather(state, members), {});
  drift.begin(flow.theta());
  double onset = options.onset;
  if (onset <= 0) {
    const double *const x = flow.theta().data(), *const g = flow.gradient().data();
    const double rate = largest(members.size(), 2 * m,
                                [=](std::size_t k) { return positive(norm(m, g + k * m) / norm(m, x + k * m)); });
    onset = rate > 0 ? 1 / rate : 0;
  }

  // Times follow the residual, whose relative error is the root of this and can weigh twenty times as much in a small
  // utility: below rtol, as far as rounding lets it be.
  const double rest = std::min(std::max(equilibrium, problem.epsilon()),
                               std::max(std::pow(0.02 * options.rtol, 2), std::pow(100 * problem.epsilon(), 2)));

  // ln of how far the fastest growth of a norm, kept up for as long as the phase has lasted, would take it, against a
  // half: above 0 a neuron is still coming up, however little of the loss that is yet (it may be small beside L for
  // ever where |y| and |x| are of very different size).
  auto growing = [&](const Look& seen, double elapsed) { return std::log(2 * seen.growth * (elapsed + onset)); };

  // What ends the phase or changes its members, as ln(quantity / threshold): below 0, it has happened.
  Array<double> output(1);
  auto events = [&](const Array<double>& theta, const Array<double>& gradient, const Look& seen, double loss,
                    double elapsed, Array<char>* leaving) {
    // A thousandth below, so that the tolerance is met whatever the error of the landing.
    double first = std::log(loss / (0.999 * options.loss_tol));
    const double left = seen.square * (elapsed + onset);
    first = std::min(first, std::max(std::log(left / (rest * loss)), growing(seen, elapsed)));
    for (std::size_t k = 0; k < members.size() && seen.falls; ++k) {
      const double* x = &theta[k * m];
      if (norm(m, x) >= 1 || dot(m, x, &gradient[k * m]) >= 0) continue;
      problem.contribution(x, 1, output.data());
      const double margin = std::log(output[0] / (options.rtol * std::sqrt(2 * loss)));
      first = std::min(first, margin);
      if (leaving) (*leaving)[k] = margin <= 1e-6;
    }
    return std::isnan(first) ? -infinity : first;
  };

  struct Passed {
    double time, loss;
  };
  Array<Passed> course{{0, flow.loss()}};
  long late_steps = 0, idle_steps = 0;
  double idle_square = 0;
  bool implicit = flow.implicit();
  Look here = look_at(m, flow.theta(), flow.gradient());
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
    Array<char> leaving(members.size());
    const double before = events(flow.theta(), flow.gradient(), here, flow.loss(), outcome.elapsed, &leaving);
    if (before <= 1e-6) {
      Array<int> stay;
      for (std::size_t k = 0; k < members.size(); ++k)
        if (!leaving[k]) stay.push_back(members[k]);
      if (stay.size() == members.size()) {
        outcome.converged = true;
        break;
      }
      scatter(flow.theta(), members, state);
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
      here = look_at(m, flow.theta(), flow.gradient());
      continue;
    }
    const double left = options.time - outcome.elapsed;
    if (!(left > 0)) break;
    const bool grown = growing(here, outcome.elapsed) <= 0;
    if (grown && flow.implicit() && here.square * (outcome.elapsed + onset) < late * flow.loss()) ++late_steps;
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
      here = look_at(m, flow.theta(), flow.gradient());
      const double after = events(flow.theta(), flow.gradient(), here, flow.loss(), outcome.elapsed + moved, nullptr);
      if (after < 0) {
        // The moment itself, not the end of the step that it fell in: what follows must not depend on the step sizes.
        Array<double> theta, gradient;
        const double s = root(before, after, [&](double at) {
          flow.between(at, theta);
          const double loss = flow.look(theta, gradient);
          return events(theta, gradient, look_at(m, theta, gradient), loss, outcome.elapsed + at * moved, nullptr);
        });
        if (s < 1) {
          step = flow.shorten(s, moved);
          here = look_at(m, flow.theta(), flow.gradient());
        }
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
    if (idle_steps <= 1 || here.square < 0.5 * idle_square) {
      idle_steps = std::min(idle_steps, 1L);
      idle_square = here.square;
    }
    drift.look(flow.theta());
    course.push_back({outcome.elapsed, flow.loss()});
  }
  here = look_at(m, flow.theta(), flow.gradient());
  if (here.square * (outcome.elapsed + onset) <= converged * flow.loss() && growing(here, outcome.elapsed) <= 0)
    outcome.converged = true;
  scatter(flow.theta(), members, state);
  outcome.gradient_norm = std::sqrt(here.square);
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

}  // namespace AGF_SPACE
