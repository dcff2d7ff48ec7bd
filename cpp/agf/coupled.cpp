#include "coupled.hpp"

#include <algorithm>

#include "interrupt.hpp"
#include "sphere.hpp"
#include "tableau.hpp"

namespace agf {

namespace {

const std::vector<int> one_system{0};
constexpr int most_rejections = 200;
// Where slow neurons follow a valley so stiff that rounding, not the flow, moves them by more than the tolerance, the
// tolerance is this many times what rounding does in a step, up to a bound: the larger of two, since rounding to float
// is coarser.
constexpr double noise_margin = 30, roughest = 1e-6, most_roundings = 1e4;

}  // namespace

Coupled::Coupled(const Problem& problem, Backend& backend, Control& control, Stats& stats, CoupledOptions options)
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
      scale_(problem.residual(nullptr, 0, *signal_)) {}

Coupled::~Coupled() = default;

void Coupled::reset(std::vector<double> theta, std::vector<Dormant> faint) {
  theta_ = std::move(theta);
  faint_ = std::move(faint);
  balance_.resize(coupled() * problem_.conserved_count());
  balance_scale_.resize(coupled());
  double none = 0;
  if (!problem_.conserved(theta_.data(), coupled(), coupled() > 0 ? balance_.data() : &none)) balance_.clear();
  history_.clear();
  dense_history_.clear();
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

Shape Coupled::shape() const { return Shape{false, implicit_ && problem_.kinked() ? ramp_.data() : nullptr}; }

Shape Coupled::faint_shape() const {
  return Shape{true, implicit_ && problem_.kinked() ? faint_ramp_.data() : nullptr};
}

double Coupled::rate(std::size_t k) const {
  return options_.adaptive_rate && kappa_ != 2 ? std::pow(norm(m_, &theta_[k * m_]), 2 - kappa_) : 1;
}

double Coupled::fall() const {
  double sum = 0;
  for (std::size_t k = 0; k < coupled(); ++k) {
    const double* gradient = &gradient_[k * m_];
    sum += rate(k) * dot(m_, gradient, gradient);
  }
  return sum;
}

double Coupled::gradient_square() const { return dot(gradient_.size(), gradient_.data(), gradient_.data()); }

// d/dt = rate d/ds for a faint neuron.
double Coupled::faint_rate(double log_norm) const {
  return kappa_ == 2 || options_.adaptive_rate ? 1.0 : std::exp((kappa_ - 2) * log_norm);
}

// y = (theta of the coupled | v, lambda of each faint neuron).
void Coupled::rhs(const std::vector<int>&, const double* y, double* f) {
  trial_loss_ = problem_.residual(y, coupled(), *trial_signal_, shape());
  field(y, *trial_signal_, f);
}

void Coupled::field(const double* y, const Signal& residual, double* f) {
  const std::size_t n = theta_.size();
  ++stats_.evaluations;
  if (n > 0) problem_.utility(y, coupled(), residual, nullptr, f, shape());
  if (options_.adaptive_rate && kappa_ != 2)
    for (std::size_t i = 0; i < n; i += m_) {
      const double rate = std::pow(norm(m_, y + i), 2 - kappa_);
      for (std::size_t e = 0; e < m_; ++e) f[i + e] *= rate;
    }
  if (faint_.empty()) return;
  points_.resize(faint_.size() * m_);
  slopes_.resize(faint_.size() * m_);
  for (std::size_t j = 0; j < faint_.size(); ++j)
    for (std::size_t e = 0; e < m_; ++e) points_[j * m_ + e] = faint_[j].direction[e] + y[n + j * (m_ + 1) + e];
  problem_.utility(points_.data(), faint_.size(), residual, nullptr, slopes_.data(), faint_shape());
  for (std::size_t j = 0; j < faint_.size(); ++j) {
    const double* row = y + n + j * (m_ + 1);
    double* out = f + n + j * (m_ + 1);
    sphere::flow(m_, kappa_, faint_[j].direction.data(), row, &slopes_[j * m_], out);
    const double rate = faint_rate(row[m_]);
    if (rate != 1)
      for (std::size_t e = 0; e <= m_; ++e) out[e] *= rate;
  }
}

// Everything known at the start of a step; `residual_known` when signal_ and loss_ belong to theta_ already.
void Coupled::evaluate(bool residual_known) {
  const std::size_t n = theta_.size();
  ramp_.resize(coupled());
  faint_ramp_.resize(faint_.size());
  const double width = accuracy_.ramp * problem_.input_scale();
  for (std::size_t i = 0; i < ramp_.size(); ++i) ramp_[i] = width * norm(m_, &theta_[i * m_]);
  std::fill(faint_ramp_.begin(), faint_ramp_.end(), width);

  y_.assign(size(), 0.0);
  std::copy(theta_.begin(), theta_.end(), y_.begin());
  for (std::size_t j = 0; j < faint_.size(); ++j) y_[n + j * (m_ + 1) + m_] = faint_[j].log_norm;
  f_.resize(size());
  if (!residual_known) loss_ = problem_.residual(theta_.data(), coupled(), *signal_, shape());
  field(y_.data(), *signal_, f_.data());
  if (!faint_.empty()) faint_gradient_ = slopes_;
  take_gradient();
}

// The same at the end of a step whose last evaluation was at its end: nothing is evaluated again. The symmetry
// theta -> S theta that put neurons back on their balance leaves U alone, so grad U -> S^{-1} grad U.
void Coupled::carry() {
  const std::size_t n = theta_.size();
  y_.assign(size(), 0.0);
  std::copy(theta_.begin(), theta_.end(), y_.begin());
  f_ = trial_.f1;
  if (!balance_.empty())
    for (std::size_t i = 0; i < n; i += m_) {
      const bool rated = options_.adaptive_rate && kappa_ != 2;
      const double rate = rated ? std::pow(norm(m_, &theta_[i]) / norm(m_, &trial_.y1[i]), 2 - kappa_) : 1;
      for (std::size_t e = i; e < i + m_; ++e)
        if (theta_[e] != 0) f_[e] *= rate * trial_.y1[e] / theta_[e];
    }
  for (std::size_t j = 0; j < faint_.size(); ++j) {
    const std::size_t at = n + j * (m_ + 1);
    y_[at + m_] = faint_[j].log_norm;
    // u = (u0 + v) / r, so du = P_u dv / r; and grad U has degree kappa - 1.
    const double r = std::sqrt(1 + dot(m_, &trial_.y1[at], &trial_.y1[at]));
    sphere::project(m_, faint_[j].direction.data(), &f_[at]);
    for (std::size_t e = 0; e < m_; ++e) f_[at + e] /= r;
    const double degree = std::pow(r, 1 - kappa_);
    for (std::size_t e = 0; e < m_; ++e) faint_gradient_[j * m_ + e] = degree * trial_slopes_[j * m_ + e];
  }
  take_gradient();
}

void Coupled::take_gradient() {
  const std::size_t n = theta_.size();
  gradient_.assign(f_.begin(), f_.begin() + static_cast<std::ptrdiff_t>(n));
  if (options_.adaptive_rate && kappa_ != 2)
    for (std::size_t i = 0; i < n; i += m_) {
      const double rate = std::pow(norm(m_, &theta_[i]), kappa_ - 2);
      for (std::size_t e = 0; e < m_; ++e) gradient_[i + e] *= rate;
    }
}

// Largest error of any neuron relative to its own norm, in units of the tolerance.
double Coupled::scaled(const std::vector<double>& error) const {
  const std::size_t n = theta_.size();
  double worst = 0;
  // std::max would drop what is not a number.
  auto see = [&worst](double part) { worst = part <= worst ? worst : part; };
  for (std::size_t i = 0; i < n; i += m_) {
    const double scale = std::max(norm(m_, &theta_[i]), norm(m_, &trial_.y1[i]));
    see(norm(m_, &error[i]) / (tolerance_ * scale));
    if (!std::isfinite(worst) || !std::isfinite(scale)) return infinity;
  }
  for (std::size_t e = n; e < size(); e += m_ + 1) {
    const double change = std::abs(trial_.y1[e + m_] - y_[e + m_]);
    see(norm(m_, &error[e]) / tolerance_);
    see(std::abs(error[e + m_]) / (tolerance_ * std::max(1.0, change)));
    if (!std::isfinite(worst) || !(norm(m_, &trial_.y1[e]) < 2)) return infinity;
  }
  return worst;
}

Coupled::Step Coupled::advance(double limit, double horizon, double& moved) {
  try {
    return try_advance(limit, horizon, moved);
  } catch (const Interrupted&) {
    return Step::stopped;
  }
}

// Each attempt leaves y1 and its error in trial_; false: no such step can be taken.
bool Coupled::attempt_one_step(double h, double& error) {
  tolerance_ = accuracy_.local;
  forcing_ = 0;
  if (problem_.kinked()) trial_course_.work += implicit_ ? one_step_cost(dense_) : explicit_cost();
  if (implicit_) {
    if (stale_ || !linear_at_start_) {
      linearize(y_.data(), f_.data(), *signal_, faint_gradient_.data());
      stale_ = false;
      linear_at_start_ = true;
    }
    if (!factor(1 / (Rodas5P::gamma * h))) return false;
    implicit_step(*this, one_system, &h, y_.data(), f_.data(), trial_);
    if (!trial_.solved) return false;
    // The last stage is not at y1.
    trial_loss_ = problem_.residual(trial_.y1.data(), coupled(), *trial_signal_, shape());
  } else {
    explicit_step(*this, one_system, &h, y_.data(), f_.data(), trial_);
    trial_slopes_ = slopes_;
    watch_stiffness(h);
  }
  error = scaled(trial_.error);
  return true;
}

// Newton's iteration with a Jacobian that is kept for as long as that is cheaper; then with one made at the prediction.
// It ends when what is left, by the rate at which it has converged so far, is below the tolerance.
bool Coupled::attempt_multistep(double& error) {
  const double most_noise = std::max(roughest, most_roundings * problem_.epsilon());
  tolerance_ = std::max(accuracy_.local, std::min(noise_margin * noise_ / history_.shift(), most_noise));
  forcing_ = 0.05;
  constexpr int most_iterations = 6;
  constexpr double foreseen = 0.02;  // the same where it has not been looked at
  constexpr double divergence = 0.5, slowing = 0.3;
  constexpr double tolerance = 0.05;  // of the local one: of what a step may be off, what Newton's iteration may add
  const std::size_t total = size();
  const double shift = history_.shift();
  history_.predict(predicted_, psi_);
  trial_.has_f1 = true;
  trial_.f1.resize(total);
  change_.resize(total);
  const double evaluation = evaluation_cost(coupled() + faint_.size());
  constexpr double near_shift = 0.3;
  const bool costly = dense_ && factor_cost(true) > 10 * evaluation;
  bool fresh = stale_ || debt_ > jacobian_cost() || eager_ > 0;
  for (;; fresh = true) {
    trial_.y1 = predicted_;
    correction_.assign(total, 0.0);
    rhs(one_system, trial_.y1.data(), trial_.f1.data());
    if (fresh) {
      linearize(trial_.y1.data(), trial_.f1.data(), *trial_signal_, slopes_.data());
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
      if (!faint_.empty()) trial_slopes_ = slopes_;
      for (std::size_t e = 0; e < total; ++e) change_[e] = trial_.f1[e] - shift * (psi_[e] + correction_[e]);
      if (!solve(one_system, change_.data())) break;
      if (damping != 1)
        for (double& e : change_) e *= damping;
      const double size = scaled(change_);
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
        for (std::size_t e = 0; e < total; ++e) {
          correction_[e] += change_[e];
          trial_.y1[e] = predicted_[e] + correction_[e];
        }
        before = size;
      }
      if (known || (rate_ < divergence && size * rate_ <= foreseen * (1 - rate_))) {
        if (!known) finish_multistep(shift);
        if (!fresh) debt_ += (known ? iteration - 1 : iteration) * evaluation;
        ++age_;
        eager_ = std::max(eager_ - 1, 0);
        noise_ *= 0.95;
        error = Differences::error_constant(history_.order()) * scaled(correction_);
        return true;
      }
      rhs(one_system, trial_.y1.data(), trial_.f1.data());
    }
    if (fresh) return false;
    // Stiff neurons in a curved valley want a new Jacobian at every step.
    if (age_ <= 2) eager_ = 8;
  }
}

// F at the end of a step that has converged is what its equation says, nearer than an evaluation there: that has the
// error of y1 times the fastest rate, not times the shift. The loss has to be looked up; so have faint neurons' slopes.
void Coupled::finish_multistep(double shift) {
  if (!faint_.empty()) {
    rhs(one_system, trial_.y1.data(), trial_.f1.data());
    trial_slopes_ = slopes_;
    return;
  }
  for (std::size_t e = 0; e < size(); ++e) trial_.f1[e] = shift * (psi_[e] + correction_[e]);
  trial_loss_ = problem_.residual(trial_.y1.data(), coupled(), *trial_signal_, shape());
}

// Order and step of what follows, from the errors that the orders beside the present one would have made.
void Coupled::choose_order(double error, int& order, double& factor) const {
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

Coupled::Step Coupled::try_advance(double limit, double horizon, double& moved) {
  if (h_ <= 0) {
    const std::size_t n = theta_.size();
    double rate = 0;
    for (std::size_t i = 0; i < n; i += m_)
      rate = std::max(rate, norm(m_, &f_[i]) / std::max(norm(m_, &theta_[i]), 1e-300));
    for (std::size_t e = n; e < size(); e += m_ + 1) rate = std::max(rate, norm(m_ + 1, &f_[e]));
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
void Coupled::accept(double error, bool multistep) {
  const std::size_t n = theta_.size();
  ++stats_.steps;
  before_ = y_;
  before_faint_ = faint_;
  before_history_ = history_;
  int order = 0;
  double factor = 0;
  if (multistep) {
    history_.accept(correction_);
    choose_order(error, order, factor);
  } else {
    // A step cut short by the caller says nothing against the longer one.
    factor = step_factor(error, rejected_);
    h_ = last_ < h_ ? std::max(h_, last_ * factor) : last_ * factor;
    if (implicit_ && !problem_.kinked()) begin_history();
  }
  rejected_ = false;
  dense_history_ = multistep ? history_ : Differences();
  theta_.assign(trial_.y1.begin(), trial_.y1.begin() + static_cast<std::ptrdiff_t>(n));
  for (std::size_t j = 0; j < faint_.size(); ++j) {
    const double* row = &trial_.y1[n + j * (m_ + 1)];
    sphere::rebase(m_, faint_[j].direction.data(), row);
    faint_[j].log_norm = row[m_];
  }
  // Local errors along the symmetry w -> s w, a -> a / s^k would add up over a long phase, and nothing else sees them:
  // outputs and loss do not change along it.
  if (!balance_.empty()) problem_.rebalance(theta_.data(), coupled(), balance_.data(), balance_scale_.data());
  std::swap(signal_, trial_signal_);
  loss_ = trial_loss_;
  if (!history_.empty()) move_history();
  if (multistep) {
    if (order != history_.order() || factor != 1) history_.change(order, factor);
    h_ = history_.step();
  }
  try {
    if (trial_.has_f1) {
      carry();
    } else {
      // The ramps follow the norms, and the residual of a kinked sigma follows them.
      evaluate(!(implicit_ && problem_.kinked()));
      stale_ = true;
    }
    if (!history_.empty()) history_.row(0) = y_;
  } catch (const Interrupted&) {
    // The step itself is done and counts; the next look stops the run.
  }
}

void Coupled::between(double s, std::vector<double>& theta, std::vector<Dormant>& faint) const {
  const std::size_t n = theta_.size(), total = size();
  theta.resize(n);
  std::vector<double> y(total);
  if (dense_history_.empty()) {
    for (std::size_t e = 0; e < total; ++e) y[e] = trial_.at(0, e, total, before_.data(), s);
  } else {
    dense_history_.at(s, y);
  }
  std::copy_n(y.begin(), n, theta.begin());
  faint = before_faint_;
  for (std::size_t j = 0; j < faint.size(); ++j) {
    const std::size_t at = n + j * (m_ + 1);
    faint[j].log_norm = y[at + m_];
    sphere::rebase(m_, faint[j].direction.data(), &y[at]);
  }
}

double Coupled::look(const std::vector<double>& theta, std::vector<double>& gradient) {
  const double loss = problem_.residual(theta.data(), coupled(), *tangent_signal_, shape());
  gradient.resize(theta.size());
  problem_.utility(theta.data(), coupled(), *tangent_signal_, nullptr, gradient.data(), shape());
  ++stats_.evaluations;
  return loss;
}

Coupled::Step Coupled::shorten(double s, double& moved) {
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

}  // namespace agf
