// Linear algebra of the implicit steps: Hessians, factors and solves.
#include "coupled.hpp"

#include <algorithm>

#include "sphere.hpp"

namespace agf {

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

// Each neuron is right to its own accuracy: what is left of its equation moves it by that over the shift. A correction
// of Newton's iteration need not be better than the next one can mend.
bool Coupled::krylov(double* b) {
  const std::size_t n = theta_.size();
  std::vector<double> goals(coupled());
  double left = 0;
  for (std::size_t k = 0; k < coupled(); ++k) {
    goals[k] = std::max(norm(m_, &linear_theta_[k * m_]), 1e-300);
    left = std::max(left, norm(m_, &b[k * m_]) / goals[k]);
  }
  const double goal = std::max(0.01 * tolerance_ * shift_, forcing_ * left);
  for (double& e : goals) e *= goal;
  const auto close = [&](const std::vector<double>& residual) {
    for (std::size_t k = 0; k < coupled(); ++k)
      if (!(norm(m_, &residual[k * m_]) <= goals[k])) return false;
    return true;
  };
  long products = 0;
  const bool done = conjugate_gradients(n, b, close, 2000, [&](const double* v, double* out) {
    ++products;
    problem_.residual_derivative(linear_theta_.data(), v, coupled(), *tangent_signal_, shape());
    problem_.curvature_vector(linear_theta_.data(), v, coupled(), *linear_signal_, tangent_signal_.get(), out, shape());
    for (std::size_t e = 0; e < n; ++e) out[e] = shift_ * v[e] - out[e];
  });
  products_ += 0.1 * (static_cast<double>(products) - products_);
  return done;
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
