// Linear algebra of the implicit steps: Hessians, factors and solves.
#include "coupled.hpp"

#include <algorithm>

#include "sphere.hpp"

namespace AGF_SPACE {

// Hessians at y, where the right-hand side is f, the residual is known and faint neurons have the gradients `slopes`.
AGF_CORE void Coupled::linearize(const double* y, const double* f, const Signal& residual, const double* slopes) {
  ++stats_.hessians;
  const std::size_t n = theta_.size(), m = m_;
  linear_theta_.assign(y, y + n);
  if (dense_ && n > 0) {
    hessian_.resize(n * n);
    problem_.loss_hessian(y, coupled(), residual, hessian_.data(), shape());
    if (rate_power() != 0) rate_hessian(y, f);
  } else if (n > 0) {
    // Products come later, when the caller's residual may have moved on.
    problem_.residual(y, coupled(), *linear_signal_, shape());
  }
  const std::size_t count = faint_.count();
  if (count == 0) return;
  linear_points_.resize(count * m);
  linear_rates_.resize(count);
  linear_faint_.assign(f + n, f + size());
  const double power = faint_power();
  const double *const u = faint_.direction.data(), *const v = y + n;
  double *const points = linear_points_.data(), *const rates = linear_rates_.data();
  each(count, m, [=](std::size_t j) {
    const double* row = v + j * (m + 1);
    for (std::size_t e = 0; e < m; ++e) points[j * m + e] = u[j * m + e] + row[e];
    rates[j] = faint_rate(power, row[m]);
  });
  faint_hessian_.resize(count * m * m);
  faint_coupling_.resize(count * m);
  problem_.utility_hessian(points, count, residual, faint_hessian_.data(), faint_shape());
  double *const hessian = faint_hessian_.data(), *const coupling = faint_coupling_.data();
  each(count, m * m,
       [=](std::size_t j) { sphere::linearize(m, u + j * m, slopes + j * m, hessian + j * m * m, coupling + j * m); });
}

// d(|theta|^{2-kappa} g) = |theta|^{2-kappa} dg + (2-kappa) |theta|^{-kappa} g theta^T, with the sign of hess L.
AGF_CORE void Coupled::rate_hessian(const double* theta, const double* f) {
  const std::size_t n = theta_.size(), m = m_;
  const double power = rate_power();
  rates_.resize(coupled());
  squares_.resize(coupled());
  double *const rates = rates_.data(), *const squares = squares_.data(), *const hessian = hessian_.data();
  each(coupled(), m, [=](std::size_t i) {
    squares[i] = dot(m, theta + i * m, theta + i * m);
    rates[i] = std::pow(squares[i], 0.5 * power);
  });
  entries(coupled(), m * n, [=](std::size_t i, std::size_t e) { hessian[e] *= rates[i]; });
  entries(coupled(), m * m, [=](std::size_t i, std::size_t e) {
    const std::size_t a = i * m + (e - i * m * m) / m, b = i * m + e % m;
    hessian[a * n + b] -= power / squares[i] * f[a] * theta[b];
  });
}

// Makes ready to solve with shift I - J.
AGF_CORE bool Coupled::factor(double shift) {
  const std::size_t n = theta_.size(), m = m_, count = faint_.count();
  shift_ = shift;
  if (dense_ && n > 0) {
    factor_ = hessian_;
    double* const factor = factor_.data();
    each(n, [=](std::size_t e) { factor[e * n + e] += shift; });
    if (rate_power() != 0) {
      pivots_.resize(n);
      if (!backend_.lu(n, factor, pivots_.data())) return false;
    } else if (!backend_.cholesky(n, factor)) {
      return false;
    }
  }
  if (count == 0) return true;
  // Faint neuron: [[shift - rate A, -(k-2) f_v], [-rate c^T, shift - (k-2) f_lambda]], k the clock's degree.
  const double degree = faint_power();
  faint_systems_.resize(count, m);
  faint_failed_.resize(count);
  faint_border_.resize(count * m);
  faint_schur_.resize(count);
  const double *const rates = linear_rates_.data(), *const hessian = faint_hessian_.data(),
                      *const f = linear_faint_.data(), *const coupling = faint_coupling_.data();
  double *const border = faint_border_.data(), *const schur = faint_schur_.data();
  char* const failed = faint_failed_.data();
  const auto shifted = [=](std::size_t j, int) {
    const double* const own = hessian + j * m * m;
    const double rate = rates[j];
    return [=](std::size_t a, std::size_t b) {
      const double entry = -rate * own[a * m + b];
      return a == b ? entry + shift : entry;
    };
  };
  faint_systems_.factor(count, nullptr, 1, shifted, failed);
  const auto take = [=](std::size_t j) {
    for (std::size_t e = 0; e < m; ++e) border[j * m + e] = degree * f[j * (m + 1) + e];
  };
  const auto eliminate = [=](std::size_t j) {
    schur[j] =
        failed[j] ? 0 : shift - degree * f[j * (m + 1) + m] - rates[j] * dot(m, coupling + j * m, border + j * m);
  };
  if (degree != 0) {
    faint_systems_.solve(count, nullptr, failed, border, m, take, eliminate);
  } else {
    each(count, m, [=](std::size_t j) {
      take(j);
      eliminate(j);
    });
  }
  return every(count, [=](std::size_t j) { return schur[j] > 0; });
}

// Each neuron is right to its own accuracy: what is left of its equation moves it by that over the shift. A correction
// of Newton's iteration need not be better than the next one can mend.
AGF_CORE bool Coupled::krylov(double* b) {
  const std::size_t n = theta_.size(), m = m_, count = coupled();
  goals_.resize(count);
  double* const goals = goals_.data();
  const double* const theta = linear_theta_.data();
  const double left = largest(count, 2 * m, [=](std::size_t k) {
    goals[k] = std::max(norm(m, theta + k * m), 1e-300);
    return positive(norm(m, b + k * m) / goals[k]);
  });
  const double goal = std::max(0.01 * tolerance_ * shift_, forcing_ * left), shift = shift_;
  const auto close = [=](const Array<double>& residual) {
    const double* const r = residual.data();
    return every(count, m, [=](std::size_t k) { return norm(m, r + k * m) <= goal * goals[k]; });
  };
  long products = 0;
  const bool done = conjugate_gradients(n, b, close, 2000, [&](const double* v, double* out) {
    ++products;
    problem_.residual_derivative(theta, v, count, *tangent_signal_, shape());
    problem_.curvature_vector(theta, v, count, *linear_signal_, tangent_signal_.get(), out, shape());
    each(n, [=](std::size_t e) { out[e] = shift * v[e] - out[e]; });
  });
  products_ += 0.1 * (static_cast<double>(products) - products_);
  return done;
}

AGF_CORE bool Coupled::solve(const Array<int>&, double* x) {
  const std::size_t n = theta_.size();
  if (n > 0) {
    if (!dense_) {
      if (!krylov(x)) return false;
    } else if (rate_power() != 0) {
      backend_.lu_solve(n, factor_.data(), pivots_.data(), x, 1);
    } else {
      backend_.cholesky_solve(n, factor_.data(), x, 1);
    }
  }
  // The coupled neurons move the residual, and that moves the faint ones; never the other way round.
  const std::size_t m = m_, count = faint_.count();
  if (count == 0) return true;
  pushes_.resize(count * m);
  double* const pushes = pushes_.data();
  if (n > 0) {
    problem_.residual_derivative(linear_theta_.data(), x, coupled(), *tangent_signal_, shape());
    problem_.utility(linear_points_.data(), count, *tangent_signal_, nullptr, pushes, faint_shape());
  } else {
    each(count * m, [=](std::size_t e) { pushes[e] = 0; });
  }
  double* const rows = x + n;
  const double *const u = faint_.direction.data(), *const rates = linear_rates_.data(),
                      *const coupling = faint_coupling_.data(), *const border = faint_border_.data(),
                      *const schur = faint_schur_.data();
  const auto push_on = [=](std::size_t j) {
    double *row = rows + j * (m + 1), *push = pushes + j * m;
    row[m] += rates[j] * dot(m, u + j * m, push);
    sphere::project(m, u + j * m, push);
    for (std::size_t e = 0; e < m; ++e) row[e] += rates[j] * push[e];
  };
  const auto grow = [=](std::size_t j) {
    double* row = rows + j * (m + 1);
    row[m] = (row[m] + rates[j] * dot(m, coupling + j * m, row)) / schur[j];
    for (std::size_t e = 0; e < m; ++e) row[e] += border[j * m + e] * row[m];
    // A Jacobian of some steps ago belongs to another chart.
    sphere::project(m, u + j * m, row);
  };
  faint_systems_.solve(count, nullptr, faint_failed_.data(), rows, m + 1, push_on, grow);
  return true;
}

AGF_CORE bool Coupled::stable(double growth, double* fastest) {
  if (!dense_ || theta_.empty()) return theta_.empty();
  const std::size_t n = theta_.size();
  shift_ = std::numeric_limits<double>::quiet_NaN();
  factor_.resize(n * n);
  ++stats_.hessians;
  problem_.loss_hessian(theta_.data(), coupled(), *signal_, factor_.data(), shape());
  double* const factor = factor_.data();
  // With rates D the flow's own matrix is D H at rest, which grows where the symmetric D^(1/2) H D^(1/2) does.
  if (rate_power() != 0) {
    const std::size_t m = m_;
    const Neurons now = neurons();
    rates_.resize(coupled());
    double* const root = rates_.data();
    each(coupled(), m, [=](std::size_t k) { root[k] = std::sqrt(now.rate(k)); });
    entries(n, n, [=](std::size_t a, std::size_t e) { factor[e] *= root[a / m] * root[(e - a * n) / m]; });
  }
  const double scale = largest(n, [=](std::size_t e) { return positive(factor[e * n + e]); });
  if (fastest) *fastest = scale;
  each(n, [=](std::size_t e) { factor[e * n + e] += growth * scale; });
  return backend_.cholesky(n, factor_.data());
}

}  // namespace AGF_SPACE
