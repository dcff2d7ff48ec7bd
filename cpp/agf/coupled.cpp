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
      scale_(problem.residual(nullptr, 0, *signal_)) {}

Coupled::~Coupled() = default;

void Coupled::reset(std::vector<double> theta, std::vector<Dormant> faint) {
  theta_ = std::move(theta);
  faint_ = std::move(faint);
  dense_ = theta_.size() <= most_dense;
  balance_.resize(coupled());
  balance_scale_.resize(coupled());
  double none = 0;
  if (!problem_.conserved(theta_.data(), coupled(), coupled() > 0 ? balance_.data() : &none)) balance_.clear();
  implicit_ = false;
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

double Coupled::implicit_cost() const {
  const auto n = static_cast<double>(theta_.size());
  const auto m = static_cast<double>(m_);
  const auto j = static_cast<double>(faint_.size());
  const double evaluations = 2 * implicit_evaluations * problem_.evaluation_flops(coupled() + faint_.size());
  const double blocks = problem_.utility_hessian_flops(faint_.size()) + j * m * m * (m + 16);
  if (!dense_) return evaluations + blocks + 8 * 50 * 3 * problem_.evaluation_flops(coupled());
  return evaluations + blocks + problem_.loss_hessian_flops(coupled()) + n * n * (n / 3 + 16);
}

Shape Coupled::shape() const { return Shape{false, implicit_ && problem_.kinked() ? ramp_.data() : nullptr}; }
Shape Coupled::faint_shape() const {
  return Shape{true, implicit_ && problem_.kinked() ? faint_ramp_.data() : nullptr};
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
  if (residual_known && trial_.has_f1 && faint_.empty())
    f_ = trial_.f1;
  else
    field(y_.data(), *signal_, f_.data());
  gradient_.assign(f_.begin(), f_.begin() + static_cast<std::ptrdiff_t>(n));
  if (options_.adaptive_rate && kappa_ != 2)
    for (std::size_t i = 0; i < n; i += m_) {
      const double rate = std::pow(norm(m_, &theta_[i]), kappa_ - 2);
      for (std::size_t e = 0; e < m_; ++e) gradient_[i + e] *= rate;
    }
  if (!faint_.empty()) faint_gradient_ = slopes_;
  stale_ = true;
}

void Coupled::linearize() {
  if (!stale_) return;
  stale_ = false;
  ++stats_.hessians;
  const std::size_t n = theta_.size();
  if (dense_ && n > 0) {
    hessian_.resize(n * n);
    problem_.loss_hessian(theta_.data(), coupled(), *signal_, hessian_.data(), shape());
    if (options_.adaptive_rate && kappa_ != 2)
      // d(|theta|^{2-kappa} g) = |theta|^{2-kappa} dg + (2-kappa) |theta|^{-kappa} g theta^T, with the sign of hess L.
      for (std::size_t i = 0; i < coupled(); ++i) {
        const double* x = &theta_[i * m_];
        const double square = dot(m_, x, x);
        const double rate = std::pow(square, 0.5 * (2 - kappa_));
        for (std::size_t a = 0; a < m_; ++a) {
          double* row = &hessian_[(i * m_ + a) * n];
          for (std::size_t e = 0; e < n; ++e) row[e] *= rate;
          for (std::size_t b = 0; b < m_; ++b)
            row[i * m_ + b] -= (2 - kappa_) * rate / square * gradient_[i * m_ + a] * x[b];
        }
      }
  }
  if (faint_.empty()) return;
  const std::size_t count = faint_.size();
  points_.resize(count * m_);
  for (std::size_t j = 0; j < count; ++j) std::copy_n(faint_[j].direction.data(), m_, &points_[j * m_]);
  faint_hessian_.resize(count * m_ * m_);
  faint_coupling_.resize(count * m_);
  problem_.utility_hessian(points_.data(), count, *signal_, faint_hessian_.data(), faint_shape());
  for (std::size_t j = 0; j < count; ++j)
    sphere::linearize(m_, faint_[j].direction.data(), &faint_gradient_[j * m_], &faint_hessian_[j * m_ * m_],
                      &faint_coupling_[j * m_]);
}

bool Coupled::factor(double h) {
  const std::size_t n = theta_.size();
  shift_ = 1 / (Rodas5P::gamma * h);
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
    const double rate = faint_rate(faint_[j].log_norm);
    for (std::size_t e = 0; e < m_ * m_; ++e) matrix[e] = -rate * faint_hessian_[j * m_ * m_ + e];
    for (std::size_t e = 0; e < m_; ++e) matrix[e * m_ + e] += shift_;
    if (!backend_.cholesky(m_, matrix)) return false;
    const double* f = &f_[n + j * (m_ + 1)];
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
    problem_.residual_derivative(theta_.data(), v, coupled(), *tangent_signal_, shape());
    problem_.curvature_vector(theta_.data(), v, coupled(), *signal_, tangent_signal_.get(), out, shape());
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
  points_.resize(count * m_);
  slopes_.assign(count * m_, 0.0);
  if (n > 0) {
    problem_.residual_derivative(theta_.data(), x, coupled(), *tangent_signal_, shape());
    for (std::size_t j = 0; j < count; ++j) std::copy_n(faint_[j].direction.data(), m_, &points_[j * m_]);
    problem_.utility(points_.data(), count, *tangent_signal_, nullptr, slopes_.data(), faint_shape());
  }
  for (std::size_t j = 0; j < count; ++j) {
    const double* u = faint_[j].direction.data();
    double* row = x + n + j * (m_ + 1);
    double* push = &slopes_[j * m_];
    const double rate = faint_rate(faint_[j].log_norm);
    row[m_] += rate * dot(m_, u, push);
    sphere::project(m_, u, push);
    for (std::size_t e = 0; e < m_; ++e) row[e] += rate * push[e];
    backend_.cholesky_solve(m_, &faint_factor_[j * m_ * m_], row, 1);
    row[m_] = (row[m_] + rate * dot(m_, &faint_coupling_[j * m_], row)) / faint_schur_[j];
    for (std::size_t e = 0; e < m_; ++e) row[e] += faint_border_[j * m_ + e] * row[m_];
  }
  return true;
}

// Largest error of any neuron relative to its own norm, in units of the tolerance.
double Coupled::error() const {
  const std::size_t n = theta_.size();
  double worst = 0;
  // std::max would drop what is not a number.
  auto see = [&worst](double part) { worst = part <= worst ? worst : part; };
  for (std::size_t i = 0; i < n; i += m_) {
    const double scale = std::max(norm(m_, &theta_[i]), norm(m_, &trial_.y1[i]));
    see(norm(m_, &trial_.error[i]) / (accuracy_.local * scale));
    if (!std::isfinite(worst) || !std::isfinite(scale)) return infinity;
  }
  for (std::size_t e = n; e < size(); e += m_ + 1) {
    const double change = std::abs(trial_.y1[e + m_] - y_[e + m_]);
    see(norm(m_, &trial_.error[e]) / accuracy_.local);
    see(std::abs(trial_.error[e + m_]) / (accuracy_.local * std::max(1.0, change)));
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

Coupled::Step Coupled::try_advance(double limit, double horizon, double& moved) {
  const std::size_t n = theta_.size();
  if (h_ <= 0) {
    double rate = 0;
    for (std::size_t i = 0; i < n; i += m_)
      rate = std::max(rate, norm(m_, &f_[i]) / std::max(norm(m_, &theta_[i]), 1e-300));
    for (std::size_t e = n; e < size(); e += m_ + 1) rate = std::max(rate, norm(m_ + 1, &f_[e]));
    h_ = rate > 0 ? 0.01 / rate : 1.0;
  }
  const double evaluation_noise = 64 * problem_.epsilon();
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
    const double h = std::min(h_, limit);
    double error = infinity;
    if (implicit_) {
      linearize();
      if (!factor(h)) {
        ++stats_.rejected;
        rejected_ = true;
        h_ = 0.5 * h;
        continue;
      }
      implicit_step(*this, one_system, &h, y_.data(), f_.data(), trial_);
    } else {
      explicit_step(*this, one_system, &h, y_.data(), f_.data(), trial_);
      spent_ += explicit_cost();
    }
    if (trial_.solved) error = this->error();
    if (error <= 1) {
      // The last stage of the explicit method was evaluated at y1.
      if (!trial_.has_f1) trial_loss_ = problem_.residual(trial_.y1.data(), coupled(), *trial_signal_, shape());
      // The flow descends: a rise beyond rounding is an error that the estimate missed.
      if (!std::isfinite(trial_loss_))
        error = infinity;
      else if (trial_loss_ > loss_ + evaluation_noise * (loss_ + 1e-3 * scale_) && attempt < 40)
        error = 32;
    }
    const double factor = step_factor(error, rejected_);
    if (!(error <= 1)) {
      ++stats_.rejected;
      rejected_ = true;
      h_ = h * std::min(factor, 0.9);
      if (!(h_ > 0)) break;
      continue;
    }
    ++stats_.steps;
    rejected_ = false;
    // A step cut short by the caller says nothing against the longer one.
    h_ = h < h_ ? std::max(h_, h * factor) : h * factor;
    moved = last_ = h;
    before_ = y_;
    before_faint_ = faint_;
    theta_.assign(trial_.y1.begin(), trial_.y1.begin() + static_cast<std::ptrdiff_t>(n));
    for (std::size_t j = 0; j < faint_.size(); ++j) {
      const double* row = &trial_.y1[n + j * (m_ + 1)];
      sphere::rebase(m_, faint_[j].direction.data(), row);
      faint_[j].log_norm = row[m_];
    }
    // Local errors along the symmetry w -> s w, a -> a / s^k would add up over a long phase, and nothing else sees
    // them: outputs and loss do not change along it.
    if (!balance_.empty()) {
      problem_.rebalance(theta_.data(), coupled(), balance_.data(), balance_scale_.data());
      trial_.has_f1 = false;
    }
    std::swap(signal_, trial_signal_);
    loss_ = trial_loss_;
    try {
      // The ramps follow the norms, and the residual of a kinked sigma follows them.
      evaluate(!(implicit_ && problem_.kinked()));
    } catch (const Interrupted&) {
      // The step itself is done and counts; the next look stops the run.
    }
    return Step::accepted;
  }
  return Step::failed;
}

void Coupled::between(double s, std::vector<double>& theta, std::vector<Dormant>& faint) const {
  const std::size_t n = theta_.size(), total = size();
  theta.resize(n);
  for (std::size_t e = 0; e < n; ++e) theta[e] = trial_.at(0, e, total, before_.data(), s);
  faint = before_faint_;
  std::vector<double> v(m_);
  for (std::size_t j = 0; j < faint.size(); ++j) {
    const std::size_t at = n + j * (m_ + 1);
    for (std::size_t e = 0; e < m_; ++e) v[e] = trial_.at(0, at + e, total, before_.data(), s);
    faint[j].log_norm = trial_.at(0, at + m_, total, before_.data(), s);
    sphere::rebase(m_, faint[j].direction.data(), v.data());
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

bool Coupled::stable(double growth) {
  if (!dense_ || theta_.empty()) return theta_.empty();
  if (options_.adaptive_rate && kappa_ != 2) return true;
  linearize();
  const std::size_t n = theta_.size();
  factor_ = hessian_;
  double scale = 0;
  for (std::size_t e = 0; e < n; ++e) scale = std::max(scale, hessian_[e * n + e]);
  for (std::size_t e = 0; e < n; ++e) factor_[e * n + e] += growth * scale;
  return backend_.cholesky(n, factor_.data());
}

}  // namespace agf
