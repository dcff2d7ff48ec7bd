// Conjugate gradients for (shift I - J) x = b with J symmetric and given by its action.
#pragma once

#include <cmath>
#include <cstddef>
#include "containers.hpp"

namespace AGF_SPACE {

AGF_CORE inline double dot(std::size_t n, const double* a, const double* b) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

AGF_CORE inline double norm(std::size_t n, const double* a) { return std::sqrt(dot(n, a, a)); }

// What is negative or not a number does not count.
AGF_CORE inline double positive(double x) { return x > 0 ? x : 0; }

// <a, b> where the vectors are long: inside what threads share already, `dot`.
AGF_CORE inline double long_dot(std::size_t n, const double* a, const double* b) {
  return total(n, [=](std::size_t i) { return a[i] * b[i]; });
}

// Overwrites b by x. `apply(v, out)` gives out = (shift I - J) v; `close(residual)` says when it is good enough, and
// rounding when it is as good as it gets.
// False as soon as a direction of non-positive curvature shows that the matrix is not positive definite: the step is
// then longer than an unstable mode allows.
template <typename Close, typename Apply>
AGF_CORE bool conjugate_gradients(std::size_t n, double* b, Close&& close, int most, Apply&& apply) {
  Array<double> solution(n), left(n), search(n), images(n);
  double *x = solution.data(), *residual = left.data(), *direction = search.data(), *image = images.data();
  each(n, [=](std::size_t i) {
    x[i] = 0;
    residual[i] = direction[i] = b[i];
  });
  double rho = long_dot(n, residual, residual);
  const double floor = 1e-28 * rho;
  bool done = rho == 0 || close(left);
  for (int iteration = 0; iteration < most && !done; ++iteration) {
    apply(direction, image);
    const double curvature = long_dot(n, direction, image);
    if (!(curvature > 0)) return false;
    const double step = rho / curvature;
    each(n, [=](std::size_t i) {
      x[i] += step * direction[i];
      residual[i] -= step * image[i];
    });
    const double next = long_dot(n, residual, residual);
    const double kept = next / rho;
    each(n, [=](std::size_t i) { direction[i] = residual[i] + kept * direction[i]; });
    rho = next;
    done = rho <= floor || close(left);
  }
  each(n, [=](std::size_t i) { b[i] = x[i]; });
  return done;
}

}  // namespace AGF_SPACE
