#include "coupled.hpp"

#include <algorithm>

#include "interrupt.hpp"
#include "sphere.hpp"
#include "tableau.hpp"

namespace agf {

namespace {

const std::vector<int> one_system{0};
// Above this many unknowns (or where memory would pass about 1 GB) Hessian-vector products replace the Hessian.
constexpr std::size_t most_dense = 2500;
// An implicit step that costs up to this many explicit ones is taken from the start.
constexpr double cheap = 8;
// Explicit work worth this many implicit steps, done or foreseen, makes the run change over.
constexpr double patience = 120;
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
  dense_ = theta_.size() <= most_dense;
  balance_.resize(coupled() * problem_.conserved_count());
  balance_scale_.resize(coupled());
  double none = 0;
  if (!problem_.conserved(theta_.data(), coupled(), coupled() > 0 ? balance_.data() : &none)) balance_.clear();
  implicit_ = false;
  history_.clear();
  dense_history_.clear();
  before_history_.clear();
  stale_ = true;
  eager_ = 0;
  noise_ = 0;
  accuracy_ = accuracy(options_.rtol, problem_, false);
  rejected_ = false;
  spent_ = 0;
  h_ = 0;
  // Without symmetry (adaptive rates) there is no matrix-free solver here: such runs stay explicit.
  if (implicit_cost() <= cheap * explicit_cost() && (dense_ || !options_.adaptive_rate)) go_implicit();
  evaluate(false);
}

void Coupled::go_implicit() {
  implicit_ = true;
  accuracy_ = accuracy(options_.rtol, problem_, true);
  stale_ = true;
}

double Coupled::explicit_cost() const {
  return explicit_evaluations * problem_.evaluation_flops(coupled() + faint_.size());
}

double Coupled::jacobian_cost() const {
  const auto n = static_cast<double>(theta_.size());
  const auto m = static_cast<double>(m_);
  const auto j = static_cast<double>(faint_.size());
  const double blocks = problem_.utility_hessian_flops(faint_.size()) + j * m * m * m / 3;
  return dense_ ? blocks + problem_.loss_hessian_flops(coupled()) + n * n * n / 3 : blocks;
}

double Coupled::implicit_cost() const {
  const auto n = static_cast<double>(theta_.size());
  const auto m = static_cast<double>(m_);
  const auto j = static_cast<double>(faint_.size());
  const double evaluations = 2 * implicit_evaluations * problem_.evaluation_flops(coupled() + faint_.size());
  const double solves = 16 * (dense_ ? n * n : 25 * 3 * problem_.evaluation_flops(coupled())) + 16 * j * m * m;
  return evaluations + solves + jacobian_cost();
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

// Hessians at y, where the right-hand side is f, the residual is known and faint neurons have the gradients `slopes`.
void Coupled::linearize(const double* y, const double* f, const Signal& residual, const double* slopes) {
  ++stats_.hessians;
  const std::size_t n = theta_.size();
  linear_theta_.assign(y, y + n);
  if (dense_ && n > 0) {
    hessian_.resize(n * n);
    problem_.loss_hessian(y, coupled(), residual, hessian_.data(), shape());
    if (options_.adaptive_rate && kappa_ != 2)
      // d(|theta|^{2-kappa} g) = |theta|^{2-kappa} dg + (2-kappa) |theta|^{-kappa} g theta^T, with the sign of hess L.
      for (std::size_t i = 0; i < coupled(); ++i) {
        const double* x = y + i * m_;
        const double square = dot(m_, x, x);
        const double rate = std::pow(square, 0.5 * (2 - kappa_));
        for (std::size_t a = 0; a < m_; ++a) {
          double* row = &hessian_[(i * m_ + a) * n];
          for (std::size_t e = 0; e < n; ++e) row[e] *= rate;
          for (std::size_t b = 0; b < m_; ++b) row[i * m_ + b] -= (2 - kappa_) / square * f[i * m_ + a] * x[b];
        }
      }
  } else if (n > 0) {
    // Products come later, when the caller's residual may have moved on.
    problem_.residual(y, coupled(), *linear_signal_, shape());
  }
  const std::size_t count = faint_.size();
  if (count == 0) return;
  linear_points_.resize(count * m_);
  linear_rates_.resize(count);
  linear_faint_.assign(f + n, f + size());
  for (std::size_t j = 0; j < count; ++j) {
    const double* row = y + n + j * (m_ + 1);
    for (std::size_t e = 0; e < m_; ++e) linear_points_[j * m_ + e] = faint_[j].direction[e] + row[e];
    linear_rates_[j] = faint_rate(row[m_]);
  }
  faint_hessian_.resize(count * m_ * m_);
  faint_coupling_.resize(count * m_);
  problem_.utility_hessian(linear_points_.data(), count, residual, faint_hessian_.data(), faint_shape());
  for (std::size_t j = 0; j < count; ++j)
    sphere::linearize(m_, faint_[j].direction.data(), slopes + j * m_, &faint_hessian_[j * m_ * m_],
                      &faint_coupling_[j * m_]);
}

// Makes ready to solve with shift I - J.
bool Coupled::factor(double shift) {
  const std::size_t n = theta_.size();
  shift_ = shift;
  if (dense_ && n > 0) {
    factor_ = hessian_;
    for (std::size_t e = 0; e < n; ++e) factor_[e * n + e] += shift_;
    if (options_.adaptive_rate && kappa_ != 2) {
      pivots_.resize(n);
      if (!backend_.lu(n, factor_.data(), pivots_.data())) return false;
    } else if (!backend_.cholesky(n, factor_.data())) {
      return false;
    }
  }
  // Faint neuron: [[shift - rate A, -(k-2) f_v], [-rate c^T, shift - (k-2) f_lambda]], k the clock's degree.
  const double degree = options_.adaptive_rate ? 0 : kappa_ - 2;
  faint_factor_.resize(faint_.size() * m_ * m_);
  faint_border_.resize(faint_.size() * m_);
  faint_schur_.resize(faint_.size());
  for (std::size_t j = 0; j < faint_.size(); ++j) {
    double* matrix = &faint_factor_[j * m_ * m_];
    const double rate = linear_rates_[j];
    for (std::size_t e = 0; e < m_ * m_; ++e) matrix[e] = -rate * faint_hessian_[j * m_ * m_ + e];
    for (std::size_t e = 0; e < m_; ++e) matrix[e * m_ + e] += shift_;
    if (!backend_.cholesky(m_, matrix)) return false;
    const double* f = &linear_faint_[j * (m_ + 1)];
    double* border = &faint_border_[j * m_];
    for (std::size_t e = 0; e < m_; ++e) border[e] = degree * f[e];
    if (degree != 0) backend_.cholesky_solve(m_, matrix, border, 1);
    faint_schur_[j] = shift_ - degree * f[m_] - rate * dot(m_, &faint_coupling_[j * m_], border);
    if (!(faint_schur_[j] > 0)) return false;
  }
  return true;
}

bool Coupled::krylov(double* b) {
  const std::size_t n = theta_.size();
  return conjugate_gradients(n, b, 0.01 * accuracy_.local * shift_, 2000, [&](const double* v, double* out) {
    problem_.residual_derivative(linear_theta_.data(), v, coupled(), *tangent_signal_, shape());
    problem_.curvature_vector(linear_theta_.data(), v, coupled(), *linear_signal_, tangent_signal_.get(), out, shape());
    for (std::size_t e = 0; e < n; ++e) out[e] = shift_ * v[e] - out[e];
  });
}

bool Coupled::solve(const std::vector<int>&, double* x) {
  const std::size_t n = theta_.size();
  if (n > 0) {
    if (!dense_) {
      if (!krylov(x)) return false;
    } else if (options_.adaptive_rate && kappa_ != 2) {
      backend_.lu_solve(n, factor_.data(), pivots_.data(), x, 1);
    } else {
      backend_.cholesky_solve(n, factor_.data(), x, 1);
    }
  }
  if (faint_.empty()) return true;
  // The coupled neurons move the residual, and that moves the faint ones; never the other way round.
  const std::size_t count = faint_.size();
  slopes_.assign(count * m_, 0.0);
  if (n > 0) {
    problem_.residual_derivative(linear_theta_.data(), x, coupled(), *tangent_signal_, shape());
    problem_.utility(linear_points_.data(), count, *tangent_signal_, nullptr, slopes_.data(), faint_shape());
  }
  for (std::size_t j = 0; j < count; ++j) {
    const double* u = faint_[j].direction.data();
    double* row = x + n + j * (m_ + 1);
    double* push = &slopes_[j * m_];
    const double rate = linear_rates_[j];
    row[m_] += rate * dot(m_, u, push);
    sphere::project(m_, u, push);
    for (std::size_t e = 0; e < m_; ++e) row[e] += rate * push[e];
    backend_.cholesky_solve(m_, &faint_factor_[j * m_ * m_], row, 1);
    row[m_] = (row[m_] + rate * dot(m_, &faint_coupling_[j * m_], row)) / faint_schur_[j];
    for (std::size_t e = 0; e < m_; ++e) row[e] += faint_border_[j * m_ + e] * row[m_];
    // A Jacobian of some steps ago belongs to another chart.
    sphere::project(m_, u, row);
  }
  return true;
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
    spent_ += explicit_cost();
  }
  error = scaled(trial_.error);
  return true;
}

// Newton's iteration with a Jacobian that is kept for as long as that is cheaper; then with one made at the prediction.
// The last evaluation is at y1 itself: it proves convergence, and the next step begins with it.
bool Coupled::attempt_multistep(double& error) {
  const double most_noise = std::max(roughest, most_roundings * problem_.epsilon());
  tolerance_ = std::max(accuracy_.local, std::min(noise_margin * noise_ / history_.shift(), most_noise));
  constexpr int most_iterations = 6;
  constexpr double divergence = 0.5;
  constexpr double tolerance = 0.05;  // of the local one: of what a step may be off, what Newton's iteration may add
  const std::size_t total = size();
  const double shift = history_.shift();
  history_.predict(predicted_, psi_);
  trial_.has_f1 = true;
  trial_.f1.resize(total);
  change_.resize(total);
  const double evaluation = problem_.evaluation_flops(coupled() + faint_.size());
  constexpr double near_shift = 0.3;
  const auto unknowns = static_cast<double>(theta_.size());
  const bool costly = dense_ && unknowns * unknowns * unknowns / 3 > 30 * evaluation;
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
    const bool ready = (!fresh && near) || factor(shift);
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
      if (iteration > 0 && size > tolerance) {
        const bool stalled = size > divergence * before;
        // With an old Jacobian slow convergence says nothing about rounding; with a new one it does: no iteration gets
        // closer.
        if (stalled && !(fresh && iteration > 1 && size < 2 * before && size * tolerance_ < most_noise)) break;
        if (stalled) noise_ = std::max(noise_, size * tolerance_ * shift);
        if (stalled && size > 0.3) break;
      }
      if (iteration > 0 && (size <= tolerance || size > divergence * before)) {
        if (!fresh) debt_ += (iteration - 1) * evaluation;
        ++age_;
        eager_ = std::max(eager_ - 1, 0);
        noise_ *= 0.95;
        error = Differences::error_constant(history_.order()) * scaled(correction_);
        return true;
      }
      before = size;
      for (std::size_t e = 0; e < total; ++e) {
        correction_[e] += change_[e];
        trial_.y1[e] = predicted_[e] + correction_[e];
      }
      rhs(one_system, trial_.y1.data(), trial_.f1.data());
    }
    if (fresh) return false;
    // Stiff neurons in a curved valley want a new Jacobian at every step.
    if (age_ <= 2) eager_ = 8;
  }
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
  const double evaluation_noise = 64 * problem_.epsilon();
  int failures = 0;
  for (int attempt = 0; attempt < most_rejections; ++attempt) {
    if (control_.poll()) return Step::stopped;
    if (!implicit_ && (dense_ || !options_.adaptive_rate)) {
      const double ahead = std::isfinite(horizon) ? explicit_cost() * horizon / h_ : 0;
      if (std::max(spent_, ahead) > patience * implicit_cost()) {
        // Early steps are small for reasons of their own; a forecast from them is worth nothing.
        if (spent_ > 20 * explicit_cost()) {
          go_implicit();
          evaluate(false);
          continue;
        }
      }
    }
    const bool multistep = !history_.empty();
    if (multistep && limit < history_.step()) history_.change(history_.order(), limit / history_.step());
    const double h = multistep ? history_.step() : std::min(h_, limit);
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

// From the continuous output of the one step that starts it.
void Coupled::begin_history() {
  constexpr int order = 4;
  std::vector<std::vector<double>> points(order + 1, std::vector<double>(size()));
  for (int j = 0; j <= order; ++j)
    for (std::size_t e = 0; e < size(); ++e)
      points[static_cast<std::size_t>(j)][e] = trial_.at(0, e, size(), y_.data(), 1 - static_cast<double>(j) / order);
  history_.start(order, last_ / order, points);
}

// The history follows the neurons: into the balance of theta_ and into the charts around the new directions.
void Coupled::move_history() {
  const std::size_t n = theta_.size();
  const int points = history_.points();
  if (!balance_.empty())
    for (std::size_t e = 0; e < n; ++e)
      if (trial_.y1[e] != 0)
        for (int j = 0; j < points; ++j) history_.row(j)[e] *= theta_[e] / trial_.y1[e];
  double values[Differences::most + 2];
  std::vector<double> there(static_cast<std::size_t>(points) * m_);
  for (std::size_t k = 0; k < faint_.size(); ++k) {
    const std::size_t at = n + k * (m_ + 1);
    const double *old = before_faint_[k].direction.data(), *now = faint_[k].direction.data();
    for (std::size_t e = 0; e < m_; ++e) {
      for (int j = 0; j < points; ++j) values[j] = history_.row(j)[at + e];
      Differences::involution(points, values);
      for (int j = 0; j < points; ++j) there[static_cast<std::size_t>(j) * m_ + e] = old[e] + values[j];
    }
    for (int j = 0; j < points; ++j) {
      double* u = &there[static_cast<std::size_t>(j) * m_];
      const double along = dot(m_, u, now);
      for (std::size_t e = 0; e < m_; ++e) u[e] = u[e] / along - now[e];
    }
    for (std::size_t e = 0; e < m_; ++e) {
      for (int j = 0; j < points; ++j) values[j] = there[static_cast<std::size_t>(j) * m_ + e];
      Differences::involution(points, values);
      for (int j = 0; j < points; ++j) history_.row(j)[at + e] = values[j];
    }
  }
}

void Coupled::regroup(const std::vector<int>& fading, const std::vector<int>& appearing) {
  const std::size_t n = theta_.size();
  auto member = [](const std::vector<int>& set, std::size_t i) {
    return std::find(set.begin(), set.end(), static_cast<int>(i)) != set.end();
  };
  // Where each neuron comes from: coupled ones by number, faint ones after them.
  std::vector<std::size_t> to_coupled, to_faint;
  for (std::size_t i = 0; i < coupled(); ++i) (member(fading, i) ? to_faint : to_coupled).push_back(i);
  for (std::size_t j = 0; j < faint_.size(); ++j)
    (member(appearing, j) ? to_coupled : to_faint).push_back(coupled() + j);

  std::vector<Dormant> faint;
  for (std::size_t from : to_faint) {
    if (from >= coupled()) {
      faint.push_back(faint_[from - coupled()]);
      continue;
    }
    const double* x = &theta_[from * m_];
    const double length = norm(m_, x);
    Dormant neuron{std::vector<double>(x, x + m_), std::log(length), 0};
    for (double& e : neuron.direction) e /= length;
    faint.push_back(std::move(neuron));
  }

  // The points of the history (or the present one alone), each neuron in its new coordinates.
  const int order = history_.order();
  const double step = history_.step();
  std::vector<std::vector<double>> points(static_cast<std::size_t>(order) + 1);
  double values[Differences::most + 1];
  std::vector<std::vector<double>> old(points.size(), y_);
  if (order > 0)
    for (std::size_t e = 0; e < size(); ++e) {
      for (int j = 0; j <= order; ++j) values[j] = history_.row(j)[e];
      Differences::involution(order + 1, values);
      for (int j = 0; j <= order; ++j) old[static_cast<std::size_t>(j)][e] = values[j];
    }
  for (std::size_t p = 0; p < points.size(); ++p) {
    std::vector<double>& point = points[p];
    for (std::size_t from : to_coupled) {
      if (from < coupled()) {
        point.insert(point.end(), &old[p][from * m_], &old[p][from * m_] + m_);
        continue;
      }
      const double* row = &old[p][n + (from - coupled()) * (m_ + 1)];
      const auto& u = faint_[from - coupled()].direction;
      const double length = std::exp(row[m_]) / std::sqrt(1 + dot(m_, row, row));
      for (std::size_t e = 0; e < m_; ++e) point.push_back(length * (u[e] + row[e]));
    }
    for (std::size_t k = 0; k < to_faint.size(); ++k) {
      const std::size_t from = to_faint[k];
      if (from >= coupled()) {
        const double* row = &old[p][n + (from - coupled()) * (m_ + 1)];
        point.insert(point.end(), row, row + m_ + 1);
        continue;
      }
      const double *x = &old[p][from * m_], *u = faint[k].direction.data();
      const double along = dot(m_, u, x);
      for (std::size_t e = 0; e < m_; ++e) point.push_back(p == 0 ? 0.0 : x[e] / along - u[e]);
      point.push_back(std::log(norm(m_, x)));
    }
  }

  std::vector<double> theta(points[0].begin(), points[0].begin() + static_cast<std::ptrdiff_t>(to_coupled.size() * m_));
  const bool implicit = implicit_;
  const double hint = h_;
  reset(std::move(theta), std::move(faint));
  h_ = hint;
  if (!implicit || order == 0) return;
  if (!implicit_) {
    go_implicit();
    evaluate(true);
  }
  history_.start(order, step, points);
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

bool Coupled::stable(double growth, double* fastest) {
  if (!dense_ || theta_.empty()) return theta_.empty();
  const std::size_t n = theta_.size();
  shift_ = std::numeric_limits<double>::quiet_NaN();
  factor_.resize(n * n);
  ++stats_.hessians;
  problem_.loss_hessian(theta_.data(), coupled(), *signal_, factor_.data(), shape());
  // With rates D the flow's own matrix is D H at rest, which grows where the symmetric D^(1/2) H D^(1/2) does.
  if (options_.adaptive_rate && kappa_ != 2) {
    std::vector<double> root(n);
    for (std::size_t i = 0; i < n; i += m_) std::fill_n(&root[i], m_, std::sqrt(rate(i / m_)));
    for (std::size_t a = 0; a < n; ++a)
      for (std::size_t b = 0; b < n; ++b) factor_[a * n + b] *= root[a] * root[b];
  }
  double scale = 0;
  for (std::size_t e = 0; e < n; ++e) scale = std::max(scale, factor_[e * n + e]);
  if (fastest) *fastest = scale;
  for (std::size_t e = 0; e < n; ++e) factor_[e * n + e] += growth * scale;
  return backend_.cholesky(n, factor_.data());
}

}  // namespace agf
