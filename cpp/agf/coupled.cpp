#include "coupled.hpp"

#include <algorithm>
#include <utility>

#include "interrupt.hpp"
#include "sphere.hpp"
#include "tableau.hpp"

namespace AGF_SPACE {

namespace {

AGF_TABLE int most_rejections = 200;
// Where slow neurons follow a valley so stiff that rounding, not the flow, moves them by more than the tolerance, the
// tolerance is this many times what rounding does in a step, up to a bound: the larger of two, since rounding to float
// is coarser.
AGF_TABLE double noise_margin = 30, roughest = 1e-6, most_roundings = 1e4;

// std::swap is not for what a block holds.
template <typename T>
AGF_CORE void trade(T& a, T& b) {
  T kept(std::move(a));
  a = std::move(b);
  b = std::move(kept);
}

}  // namespace

AGF_CORE Array<double> gather(const State& state, const Array<int>& members) {
  const std::size_t m = state.params;
  Array<double> theta(members.size() * m);
  const int* const from = members.data();
  const double *const u = state.direction.data(), *const log_norm = state.log_norm.data();
  double* const to = theta.data();
  each(members.size(), m, [=](std::size_t k) {
    const auto at = static_cast<std::size_t>(from[k]);
    const double length = std::exp(log_norm[at]);
    for (std::size_t e = 0; e < m; ++e) to[k * m + e] = length * u[at * m + e];
  });
  return theta;
}

AGF_CORE void scatter(const Array<double>& theta, const Array<int>& members, State& state) {
  const std::size_t m = state.params;
  const int* const to = members.data();
  const double* const from = theta.data();
  double *const u = state.direction.data(), *const log_norm = state.log_norm.data();
  each(members.size(), 2 * m, [=](std::size_t k) {
    const auto at = static_cast<std::size_t>(to[k]);
    const double length = norm(m, &from[k * m]);
    for (std::size_t e = 0; e < m; ++e) u[at * m + e] = from[k * m + e] / length;
    log_norm[at] = std::log(length);
  });
}

AGF_CORE Coupled::Coupled(const Problem& problem, Backend& backend, Control& control, Stats& stats,
                          CoupledOptions options)
    : problem_(problem),
      backend_(backend),
      control_(control),
      stats_(stats),
      options_(options),
      m_(problem.params()),
      kappa_(problem.kappa()),
      signal_(problem.make_signal()),
      trial_signal_(problem.make_signal()),
      tangent_signal_(problem.make_signal()),
      linear_signal_(problem.make_signal()),
      scale_(problem.residual(nullptr, 0, *signal_)),
      faint_systems_(backend) {}

AGF_CORE Coupled::~Coupled() = default;

AGF_CORE AGF_APART void Coupled::reset(Array<double> theta, Faint faint) {
  theta_ = std::move(theta);
  faint_ = std::move(faint);
  balance_.resize(coupled() * problem_.conserved_count());
  balance_scale_.resize(coupled());
  double none = 0;
  if (!problem_.conserved(theta_.data(), coupled(), coupled() > 0 ? balance_.data() : &none)) balance_.clear();
  history_.clear();
  before_history_.clear();
  stale_ = true;
  eager_ = 0;
  noise_ = 0;
  accuracy_ = accuracy(options_.rtol, problem_, false);
  rejected_ = false;
  h_ = 0;
  choose_method();
  evaluate(false);
}

AGF_CORE Shape Coupled::shape() const { return Shape{false, ramped() ? ramp_.data() : nullptr}; }

AGF_CORE Shape Coupled::faint_shape() const { return Shape{true, ramped() ? faint_ramp_.data() : nullptr}; }

AGF_CORE double Coupled::Neurons::rate(std::size_t k) const {
  return power == 0 ? 1 : std::pow(norm(params, theta + k * params), power);
}

AGF_CORE double Coupled::Neurons::relative_speed(std::size_t k) const {
  return rate(k) * norm(params, gradient + k * params) / norm(params, theta + k * params);
}

AGF_CORE double Coupled::top_speed() const {
  const Neurons now = neurons();
  return largest(coupled(), 2 * m_, [=](std::size_t k) { return positive(now.relative_speed(k)); });
}

AGF_CORE double Coupled::fall() const {
  const Neurons now = neurons();
  return total(coupled(), m_, [=](std::size_t k) {
    const double* gradient = now.gradient + k * now.params;
    return now.rate(k) * dot(now.params, gradient, gradient);
  });
}

AGF_CORE double Coupled::gradient_square() const {
  return long_dot(gradient_.size(), gradient_.data(), gradient_.data());
}

AGF_CORE double Coupled::rise(double log_norm, double limit) {
  const std::size_t count = faint_.count(), m = m_;
  rises_.resize(count);
  const double *const f = f_.data() + theta_.size(), *const now = faint_.log_norm.data();
  double* const rises = rises_.data();
  each(count, [=](std::size_t j) {
    const double growth = f[j * (m + 1) + m];
    rises[j] = growth > 0 ? (log_norm - now[j]) / growth : limit;
  });
  for (const double time : rises_) limit = std::min(limit, time);
  return limit;
}

AGF_CORE bool Coupled::settled(double lowest, double highest) const {
  const std::size_t m = m_, seen = coupled();
  const double *const theta = theta_.data(), *const log_norm = faint_.log_norm.data();
  return every(seen + faint_.count(), m, [=](std::size_t k) {
    return k < seen ? !(std::log(norm(m, theta + k * m)) < lowest) : !(log_norm[k - seen] >= highest);
  });
}

// y = (theta of the coupled | v, lambda of each faint neuron).
AGF_CORE void Coupled::rhs(const Array<int>&, const double* y, double* f) {
  trial_loss_ = problem_.residual(y, coupled(), *trial_signal_, shape());
  field(y, *trial_signal_, f);
}

AGF_CORE void Coupled::field(const double* y, const Signal& residual, double* f) {
  const std::size_t n = theta_.size(), m = m_, count = faint_.count();
  const double kappa = kappa_;
  ++stats_.evaluations;
  if (n > 0) problem_.utility(y, coupled(), residual, nullptr, f, shape());
  if (const double power = rate_power(); power != 0)
    each(coupled(), m, [=](std::size_t k) {
      const double rate = std::pow(norm(m, y + k * m), power);
      for (std::size_t e = k * m; e < (k + 1) * m; ++e) f[e] *= rate;
    });
  if (count == 0) return;
  points_.resize(count * m);
  slopes_.resize(count * m);
  const double *const u = faint_.direction.data(), *const v = y + n;
  double *const points = points_.data(), *const slopes = slopes_.data();
  entries(count, m, [=](std::size_t j, std::size_t e) { points[e] = u[e] + v[e + j]; });
  problem_.utility(points, count, residual, nullptr, slopes, faint_shape());
  const double power = faint_power();
  each(count, m, [=](std::size_t j) {
    const double* row = v + j * (m + 1);
    double* out = f + n + j * (m + 1);
    sphere::flow(m, kappa, u + j * m, row, slopes + j * m, out);
    const double rate = faint_rate(power, row[m]);
    if (rate != 1)
      for (std::size_t e = 0; e <= m; ++e) out[e] *= rate;
  });
}

// Everything known at the start of a step; `residual_known` when signal_ and loss_ belong to theta_ already.
AGF_CORE AGF_APART void Coupled::evaluate(bool residual_known) {
  if (ramped()) {
    const std::size_t m = m_;
    const double width = accuracy_.ramp * problem_.input_scale();
    ramp_.resize(coupled());
    faint_ramp_.assign(faint_.count(), width);
    double* const ramp = ramp_.data();
    const double* const theta = theta_.data();
    each(coupled(), m, [=](std::size_t k) { ramp[k] = width * norm(m, theta + k * m); });
  }
  take_start();
  f_.resize(size());
  if (!residual_known) loss_ = problem_.residual(theta_.data(), coupled(), *signal_, shape());
  field(y_.data(), *signal_, f_.data());
  trade(faint_gradient_, slopes_);
  take_gradient();
}

// y at v = 0.
AGF_CORE void Coupled::take_start() {
  const std::size_t n = theta_.size(), m = m_;
  y_.resize(size());
  const double *const theta = theta_.data(), *const log_norm = faint_.log_norm.data();
  double *const y = y_.data(), *const rows = y + n;
  each(n, [=](std::size_t e) { y[e] = theta[e]; });
  entries(faint_.count(), m + 1,
          [=](std::size_t j, std::size_t e) { rows[e] = e == j * (m + 1) + m ? log_norm[j] : 0; });
}

// The same as `evaluate` at the end of a step whose last evaluation was at its end: nothing is evaluated again. The
// symmetry theta -> S theta that put neurons back on their balance leaves U alone, so grad U -> S^{-1} grad U.
AGF_CORE void Coupled::carry() {
  const std::size_t n = theta_.size(), m = m_;
  y_.resize(size());
  const bool balanced = !balance_.empty();
  const double *const theta = theta_.data(), *const y1 = trial_.y1.data(), *const f1 = trial_.f1.data();
  double *const y = y_.data(), *const f = f_.data(), *const gradient = gradient_.data();
  if (const double power = rate_power(); power != 0) {
    each(coupled(), 2 * m, [=](std::size_t k) {
      const double length = norm(m, theta + k * m);
      const double rate = balanced ? std::pow(length / norm(m, y1 + k * m), power) : 1;
      const double back = std::pow(length, -power);
      for (std::size_t e = k * m; e < (k + 1) * m; ++e) {
        y[e] = theta[e];
        f[e] = balanced && theta[e] != 0 ? f1[e] * (rate * y1[e] / theta[e]) : f1[e];
        gradient[e] = f[e] * back;
      }
    });
  } else {
    each(n, [=](std::size_t e) {
      const double slope = balanced && theta[e] != 0 ? f1[e] * (y1[e] / theta[e]) : f1[e];
      y[e] = theta[e];
      f[e] = gradient[e] = slope;
    });
  }
  const double kappa = kappa_;
  const double *const u = faint_.direction.data(), *const log_norm = faint_.log_norm.data();
  const double* const slopes = slopes_.data();
  double* const faint_gradient = faint_gradient_.data();
  each(faint_.count(), 4 * m, [=](std::size_t j) {
    const std::size_t at = n + j * (m + 1);
    for (std::size_t e = 0; e < m; ++e) {
      y[at + e] = 0;
      f[at + e] = f1[at + e];
    }
    y[at + m] = log_norm[j];
    f[at + m] = f1[at + m];
    // u = (u0 + v) / r, so du = P_u dv / r; and grad U has degree kappa - 1.
    const double r = std::sqrt(1 + dot(m, y1 + at, y1 + at));
    sphere::project(m, u + j * m, f + at);
    for (std::size_t e = 0; e < m; ++e) f[at + e] /= r;
    const double degree = std::pow(r, 1 - kappa);
    for (std::size_t e = j * m; e < (j + 1) * m; ++e) faint_gradient[e] = degree * slopes[e];
  });
}

AGF_CORE void Coupled::take_gradient() {
  const std::size_t n = theta_.size(), m = m_;
  gradient_.resize(n);
  const double *const f = f_.data(), *const theta = theta_.data();
  double* const gradient = gradient_.data();
  if (const double power = -rate_power(); power != 0) {
    each(coupled(), 2 * m, [=](std::size_t k) {
      const double rate = std::pow(norm(m, theta + k * m), power);
      for (std::size_t e = k * m; e < (k + 1) * m; ++e) gradient[e] = f[e] * rate;
    });
  } else {
    each(n, [=](std::size_t e) { gradient[e] = f[e]; });
  }
}

// Largest error of any neuron relative to its own norm, in units of the tolerance.
AGF_CORE double Coupled::scaled(const double* error) const {
  const std::size_t n = theta_.size(), m = m_, seen = coupled();
  const double tolerance = tolerance_;
  const double *const y = y_.data(), *const y1 = trial_.y1.data();
  return largest(seen + faint_.count(), 3 * m, [=](std::size_t k) {
    if (k < seen) {
      const std::size_t at = k * m;
      const double scale = std::max(norm(m, y + at), norm(m, y1 + at));
      const double part = norm(m, error + at) / (tolerance * scale);
      return std::isfinite(part) && std::isfinite(scale) ? part : infinity;
    }
    const std::size_t at = n + (k - seen) * (m + 1);
    const double change = std::abs(y1[at + m] - y[at + m]);
    const double turn = norm(m, error + at) / tolerance;
    const double growth = std::abs(error[at + m]) / (tolerance * std::max(1.0, change));
    const bool fine = std::isfinite(turn) && std::isfinite(growth) && norm(m, y1 + at) < 2;
    return fine ? std::max(turn, growth) : infinity;
  });
}

AGF_CORE Coupled::Step Coupled::advance(double limit, double horizon, double& moved) {
  Step step = Step::stopped;
  uninterrupted([&]() { step = try_advance(limit, horizon, moved); });
  return step;
}

// Each attempt leaves y1 and its error in trial_; false: no such step can be taken.
AGF_CORE AGF_APART bool Coupled::attempt_one_step(double h, double& error) {
  tolerance_ = accuracy_.local;
  forcing_ = 0;
  step_[0] = h;
  if (problem_.kinked()) trial_course_.work += implicit_ ? one_step_cost(dense_) : explicit_cost();
  if (implicit_) {
    if (stale_ || !linear_at_start_) {
      linearize(y_.data(), f_.data(), *signal_, faint_gradient_.data());
      stale_ = false;
      linear_at_start_ = true;
    }
    if (!factor(1 / (Rodas5P::gamma * h))) return false;
    implicit_step(*this, one_system_, step_.data(), y_.data(), f_.data(), trial_);
    if (!trial_.solved) return false;
    // The last stage is not at y1.
    trial_loss_ = problem_.residual(trial_.y1.data(), coupled(), *trial_signal_, shape());
  } else {
    explicit_step(*this, one_system_, step_.data(), y_.data(), f_.data(), trial_);
    watch_stiffness(h);
  }
  error = scaled(trial_.error.data());
  return true;
}

// Newton's iteration with a Jacobian that is kept for as long as that is cheaper; then with one made at the prediction.
// It ends when what is left, by the rate at which it has converged so far, is below the tolerance.
AGF_CORE AGF_APART bool Coupled::attempt_multistep(double& error) {
  const double most_noise = std::max(roughest, most_roundings * problem_.epsilon());
  tolerance_ = std::max(accuracy_.local, std::min(noise_margin * noise_ / history_.shift(), most_noise));
  forcing_ = 0.05;
  constexpr int most_iterations = 6;
  constexpr double foreseen = 0.02;  // the same where it has not been looked at
  constexpr double divergence = 0.5, slowing = 0.3;
  constexpr double tolerance = 0.05;  // of the local one: of what a step may be off, what Newton's iteration may add
  const std::size_t entries = size();
  const double shift = history_.shift();
  trial_.has_f1 = true;
  for (auto* array : {&trial_.y1, &trial_.f1, &predicted_, &psi_, &correction_, &change_}) array->resize(entries);
  double *const predicted = predicted_.data(), *const psi = psi_.data(), *const correction = correction_.data(),
                *const change = change_.data(), *const y1 = trial_.y1.data(), *const f1 = trial_.f1.data();
  const Differences::Prediction predict = history_.prediction();
  const double evaluation = evaluation_cost(coupled() + faint_.count());
  constexpr double near_shift = 0.3;
  const bool costly = dense_ && factor_cost(true) > 10 * evaluation;
  bool fresh = stale_ || debt_ > jacobian_cost() || eager_ > 0;
  for (;; fresh = true) {
    each(entries, Differences::most, [=](std::size_t e) {
      predict(e, predicted[e], psi[e]);
      y1[e] = predicted[e];
      correction[e] = 0;
    });
    rhs(one_system_, y1, f1);
    if (fresh) {
      linearize(y1, f1, *trial_signal_, slopes_.data());
      stale_ = linear_at_start_ = false;
      age_ = 0;
      debt_ = 0;
    }
    // A factor made for another step size serves while the two are near and another would cost more than iterations do.
    const double drift = shift_ / shift;
    const bool near = shift == shift_ || (costly && std::abs(drift - 1) < near_shift);
    const bool kept = !fresh && near;
    if (!kept) rate_ = 1;
    const bool ready = kept || factor(shift);
    // Corrections come out as 1 times what they should be along stiff components, as shift / shift_ times along slow
    // ones; times the harmonic mean of the inverses they are equally far off on both.
    const double damping = shift == shift_ ? 1 : 2 * drift / (1 + drift);
    double before = 0;
    for (int iteration = 0; ready && iteration < most_iterations; ++iteration) {
      each(entries, [=](std::size_t e) { change[e] = f1[e] - shift * (psi[e] + correction[e]); });
      if (!solve(one_system_, change)) break;
      if (damping != 1) each(entries, [=](std::size_t e) { change[e] *= damping; });
      const double size = scaled(change);
      if (!std::isfinite(size)) break;
      if (iteration > 0) rate_ = std::max(slowing * rate_, size / before);
      if (iteration > 0 && size > tolerance) {
        const bool stalled = size > divergence * before;
        // With an old Jacobian slow convergence says nothing about rounding; with a new one it does: no iteration gets
        // closer.
        if (stalled && !(fresh && iteration > 1 && size < 2 * before && size * tolerance_ < most_noise)) break;
        if (stalled) noise_ = std::max(noise_, size * tolerance_ * shift);
        if (stalled && size > 0.3) break;
      }
      // Converged already: the last evaluation was at y1 itself.
      const bool known = iteration > 0 && (size <= tolerance || size > divergence * before);
      if (!known) {
        each(entries, [=](std::size_t e) {
          correction[e] += change[e];
          y1[e] = predicted[e] + correction[e];
        });
        before = size;
      }
      if (known || (rate_ < divergence && size * rate_ <= foreseen * (1 - rate_))) {
        if (!known) finish_multistep(shift);
        if (!fresh) debt_ += (known ? iteration - 1 : iteration) * evaluation;
        ++age_;
        eager_ = std::max(eager_ - 1, 0);
        noise_ *= 0.95;
        error = Differences::error_constant(history_.order()) * scaled(correction);
        return true;
      }
      rhs(one_system_, y1, f1);
    }
    if (fresh) return false;
    // Stiff neurons in a curved valley want a new Jacobian at every step.
    if (age_ <= 2) eager_ = 8;
  }
}

// F at the end of a step that has converged is what its equation says, nearer than an evaluation there: that has the
// error of y1 times the fastest rate, not times the shift. The loss has to be looked up; so have faint neurons' slopes.
AGF_CORE void Coupled::finish_multistep(double shift) {
  if (faint_.count() > 0) return rhs(one_system_, trial_.y1.data(), trial_.f1.data());
  double* const f1 = trial_.f1.data();
  const double *const psi = psi_.data(), *const correction = correction_.data();
  each(size(), [=](std::size_t e) { f1[e] = shift * (psi[e] + correction[e]); });
  trial_loss_ = problem_.residual(trial_.y1.data(), coupled(), *trial_signal_, shape());
}

// Order and step of what follows, from the errors that the orders beside the present one would have made.
AGF_CORE void Coupled::choose_order(double error, int& order, double& factor) const {
  const int k = history_.order();
  order = k;
  factor = 1;
  if (history_.equal_steps() <= k) return;
  factor = step_reach(error, k);
  if (k > 1) {
    const double lower = step_reach(Differences::error_constant(k - 1) * scaled(history_.row(k)), k - 1);
    if (lower > factor) {
      order = k - 1;
      factor = lower;
    }
  }
  if (k < Differences::most) {
    const double higher = step_reach(Differences::error_constant(k + 1) * scaled(history_.row(k + 2)), k + 1);
    if (higher > factor) {
      order = k + 1;
      factor = higher;
    }
  }
  factor = std::min(factor, 8.0);
  // A new step costs a factorisation.
  if (order == k && factor > 0.9 && factor < 1.2) factor = 1;
}

AGF_CORE Coupled::Step Coupled::try_advance(double limit, double horizon, double& moved) {
  if (h_ <= 0) {
    const std::size_t n = theta_.size(), m = m_, seen = coupled();
    const double *const f = f_.data(), *const theta = theta_.data();
    const double rate = largest(seen + faint_.count(), 2 * m, [=](std::size_t k) {
      if (k >= seen) return positive(norm(m + 1, f + n + (k - seen) * (m + 1)));
      return positive(norm(m, f + k * m) / std::max(norm(m, theta + k * m), 1e-300));
    });
    h_ = rate > 0 ? 0.01 / rate : 1.0;
  }
  const double evaluation_noise = 40 * problem_.epsilon();
  int failures = 0;
  for (int attempt = 0; attempt < most_rejections; ++attempt) {
    if (control_.poll()) return Step::stopped;
    if (changes_over(horizon)) {
      go_implicit();
      evaluate(false);
    }
    if (implicit_) reconsider_algebra();
    const bool multistep = !history_.empty();
    if (multistep && limit < history_.step()) history_.change(history_.order(), limit / history_.step());
    const double h = multistep ? history_.step() : std::min(h_, limit);
    if (implicit_) gain_.work += implicit_cost(dense_);
    double error = infinity;
    const bool solved = multistep ? attempt_multistep(error) : attempt_one_step(h, error);
    if (!solved) {
      ++stats_.rejected;
      rejected_ = true;
      ++failures;
      h_ = (multistep ? 0.3 : 0.5) * h;
      if (!(h_ > 0)) break;
      if (multistep && failures < 4) {
        history_.change(history_.order(), 0.3);
      } else {
        history_.clear();
      }
      continue;
    }
    // The flow descends: a rise beyond rounding is an error that the estimate missed.
    if (error <= 1) {
      // r = y - f is rounded by eps (|y| + |f|) at each sample, and L = 1/2 E|r|^2 by sqrt(L E|y|^2) times that.
      const double loss_scale = std::max({loss_, 1e-3 * scale_, std::sqrt(loss_ * scale_)});
      if (!std::isfinite(trial_loss_))
        error = infinity;
      else if (trial_loss_ > loss_ + evaluation_noise * loss_scale && attempt < 40)
        error = 32;
    }
    if (!(error <= 1)) {
      ++stats_.rejected;
      rejected_ = true;
      if (multistep) {
        const double factor = std::isfinite(error) ? std::clamp(step_reach(error, history_.order()), 0.2, 0.9) : 0.2;
        history_.change(history_.order(), factor);
        h_ = history_.step();
      } else {
        h_ = h * std::min(step_factor(error, true), 0.9);
      }
      if (!(h_ > 0)) break;
      continue;
    }
    moved = last_ = h;
    accept(error, multistep);
    if (problem_.kinked())
      take_turns(moved, horizon - moved);
    else
      look_back(moved);
    return Step::accepted;
  }
  return Step::failed;
}

// Takes the step that lies in trial_.
AGF_CORE AGF_APART void Coupled::accept(double error, bool multistep) {
  const std::size_t n = theta_.size(), m = m_;
  ++stats_.steps;
  const double* const y1 = trial_.y1.data();
  double* const theta = theta_.data();
  int order = 0;
  double factor = 0;
  if (multistep) {
    trade(before_history_, history_);
    const Differences::Advance advance = history_.advance_from(before_history_);
    const double* const correction = correction_.data();
    each(size(), Differences::most, [=](std::size_t e) {
      advance(e, correction[e]);
      if (e < n) theta[e] = y1[e];
    });
    choose_order(error, order, factor);
  } else {
    before_history_.clear();
    // A step cut short by the caller says nothing against the longer one.
    factor = step_factor(error, rejected_);
    h_ = last_ < h_ ? std::max(h_, last_ * factor) : last_ * factor;
    if (implicit_ && !problem_.kinked()) begin_history();
    each(n, [=](std::size_t e) { theta[e] = y1[e]; });
  }
  rejected_ = false;
  trade(before_, y_);
  trade(before_faint_, faint_);
  faint_.direction.resize(before_faint_.direction.size());
  faint_.log_norm.resize(before_faint_.count());
  const double* const from = before_faint_.direction.data();
  double *const to = faint_.direction.data(), *const log_norm = faint_.log_norm.data();
  each(faint_.count(), 3 * m, [=](std::size_t j) {
    const double* row = y1 + n + j * (m + 1);
    for (std::size_t e = j * m; e < (j + 1) * m; ++e) to[e] = from[e];
    sphere::rebase(m, to + j * m, row);
    log_norm[j] = row[m];
  });
  // Local errors along the symmetry w -> s w, a -> a / s^k would add up over a long phase, and nothing else sees them:
  // outputs and loss do not change along it.
  if (!balance_.empty()) problem_.rebalance(theta_.data(), coupled(), balance_.data(), balance_scale_.data());
  swap(signal_, trial_signal_);
  loss_ = trial_loss_;
  // Where this is broken off, the step itself is done and counts; the next look stops the run.
  uninterrupted([&]() {
    if (trial_.has_f1) {
      carry();
    } else {
      // The ramps follow the norms, and the residual of a kinked sigma follows them.
      evaluate(!ramped());
      stale_ = true;
    }
  });
  if (!history_.empty()) move_history();
  if (multistep) {
    if (order != history_.order() || factor != 1) history_.change(order, factor);
    h_ = history_.step();
  }
}

AGF_CORE Array<double> Coupled::values_at(double s) const {
  Array<double> y(size());
  if (before_history_.empty()) {
    const Trial::Curve curve = trial_.curve(before_.data());
    double* const to = y.data();
    each(y.size(), [=](std::size_t e) { to[e] = curve(e, s); });
  } else {
    before_history_.between(s, correction_, y);
  }
  return y;
}

AGF_CORE void Coupled::between(double s, Array<double>& theta, Faint& faint) const {
  const std::size_t n = theta_.size(), m = m_;
  const Array<double> y = values_at(s);
  theta.assign(y.begin(), y.begin() + static_cast<std::ptrdiff_t>(n));
  faint.direction = before_faint_.direction;
  faint.log_norm.resize(faint_.count());
  const double* const rows = y.data() + n;
  double *const u = faint.direction.data(), *const log_norm = faint.log_norm.data();
  each(faint_.count(), 2 * m, [=](std::size_t j) {
    const double* row = rows + j * (m + 1);
    log_norm[j] = row[m];
    sphere::rebase(m, u + j * m, row);
  });
}

AGF_CORE void Coupled::between(double s, Array<double>& theta) const {
  theta = values_at(s);
  theta.resize(theta_.size());
}

AGF_CORE double Coupled::look(const Array<double>& theta, Array<double>& gradient) {
  const double loss = problem_.residual(theta.data(), coupled(), *tangent_signal_, shape());
  gradient.resize(theta.size());
  problem_.utility(theta.data(), coupled(), *tangent_signal_, nullptr, gradient.data(), shape());
  ++stats_.evaluations;
  return loss;
}

AGF_CORE Coupled::Step Coupled::shorten(double s, double& moved) {
  theta_.assign(before_.begin(), before_.begin() + static_cast<std::ptrdiff_t>(theta_.size()));
  faint_ = before_faint_;
  history_ = before_history_;
  evaluate(false);
  const double h = s * last_;
  const Step step = advance(h, h, moved);
  // A rejection on the way would leave the rest to be done.
  while (step == Step::accepted && moved < h) {
    double more = 0;
    const Step next = advance(h - moved, h - moved, more);
    moved += more;
    if (next != Step::accepted) return next;
  }
  return step;
}

}  // namespace AGF_SPACE
