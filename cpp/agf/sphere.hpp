// The flow of one dormant neuron in the chart theta = rho (u0 + v), v orthogonal to the unit vector u0.
//
// With theta' = grad U(theta) and the neuron's own clock ds = |theta|^{kappa-2} dt, g = grad U(u0 + v), q = 1 + |v|^2:
//   v'      = q^{(2-kappa)/2} (P g - (u0.g) v)                     P = I - u0 u0^T
//   lambda' = q^{-kappa/2} (u0 + v).g                              lambda = ln|theta|
// At v = 0 the Jacobian in v is  P hess U P - (u0.g) P: symmetric, which is why this chart and not another.
#pragma once

#include <cmath>
#include <cstddef>

#include "linear.hpp"

namespace AGF_SPACE::sphere {

// f (m + 1): v' then lambda'.
AGF_CORE inline void flow(std::size_t m, double kappa, const double* u0, const double* v, const double* g, double* f) {
  double q = 1, radial = 0, along = 0;
  for (std::size_t i = 0; i < m; ++i) {
    q += v[i] * v[i];
    radial += u0[i] * g[i];
    along += (u0[i] + v[i]) * g[i];
  }
  const double rate = kappa == 2 ? 1.0 : std::pow(q, 0.5 * (2 - kappa));
  for (std::size_t i = 0; i < m; ++i) f[i] = rate * (g[i] - radial * (u0[i] + v[i]));
  f[m] = along * std::pow(q, -0.5 * kappa);
}

// u0 <- (u0 + v) / |u0 + v|.
AGF_CORE inline void rebase(std::size_t m, double* u0, const double* v) {
  for (std::size_t i = 0; i < m; ++i) u0[i] += v[i];
  const double scale = 1 / norm(m, u0);
  for (std::size_t i = 0; i < m; ++i) u0[i] *= scale;
}

AGF_CORE inline void project(std::size_t m, const double* u0, double* x) {
  const double along = dot(m, u0, x);
  for (std::size_t i = 0; i < m; ++i) x[i] -= along * u0[i];
}

// P (g + B u0), the derivative of lambda' along v; bu = B u0.
AGF_CORE inline void couple(std::size_t m, const double* u0, const double* g, const double* bu, double* coupling) {
  for (std::size_t i = 0; i < m; ++i) coupling[i] = bu[i] + g[i];
  project(m, u0, coupling);
}

// The entry P b P of one b of B, from those of u0 and B u0 in its row and column; ubu = u0.B u0.
AGF_CORE inline double project_entry(double b, double ui, double uj, double bui, double buj, double ubu) {
  return b + (ui * (ubu * uj - buj) - bui * uj);
}

// Turns hess U at u0 into the Jacobian A = P B P - (u0.g) I, in place; the normal direction decouples.
// coupling (m): see `couple`.
AGF_CORE inline void linearize(std::size_t m, const double* u0, const double* g, double* hessian, double* coupling) {
  const double radial = dot(m, u0, g);
  double* bu = coupling;
  for (std::size_t i = 0; i < m; ++i) bu[i] = dot(m, hessian + i * m, u0);
  const double ubu = dot(m, u0, bu);
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t j = 0; j < m; ++j)
      hessian[i * m + j] = project_entry(hessian[i * m + j], u0[i], u0[j], bu[i], bu[j], ubu);
    hessian[i * m + i] -= radial;
  }
  couple(m, u0, g, bu, coupling);
}

}  // namespace AGF_SPACE::sphere
