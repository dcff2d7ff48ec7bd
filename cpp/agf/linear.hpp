// Conjugate gradients for (shift I - J) x = b with J symmetric and given by its action.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace agf {

inline double dot(std::size_t n, const double* a, const double* b) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

inline double norm(std::size_t n, const double* a) { return std::sqrt(dot(n, a, a)); }

// Overwrites b by x. `apply(v, out)` gives out = (shift I - J) v; `close(residual)` says when it is good enough, and
// rounding when it is as good as it gets.
// False as soon as a direction of non-positive curvature shows that the matrix is not positive definite: the step is
// then longer than an unstable mode allows.
template <typename Close, typename Apply>
bool conjugate_gradients(std::size_t n, double* b, Close&& close, int most, Apply&& apply) {
  std::vector<double> x(n, 0.0), residual(b, b + n), direction(residual), image(n);
  double rho = dot(n, residual.data(), residual.data());
  const double floor = 1e-28 * rho;
  bool done = rho == 0 || close(residual);
  for (int iteration = 0; iteration < most && !done; ++iteration) {
    apply(direction.data(), image.data());
    const double curvature = dot(n, direction.data(), image.data());
    if (!(curvature > 0)) return false;
    const double step = rho / curvature;
    for (std::size_t i = 0; i < n; ++i) x[i] += step * direction[i];
    for (std::size_t i = 0; i < n; ++i) residual[i] -= step * image[i];
    const double next = dot(n, residual.data(), residual.data());
    for (std::size_t i = 0; i < n; ++i) direction[i] = residual[i] + next / rho * direction[i];
    rho = next;
    done = rho <= floor || close(residual);
  }
  std::copy(x.begin(), x.end(), b);
  return done;
}

}  // namespace agf
