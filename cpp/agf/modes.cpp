#include "modes.hpp"

#include <algorithm>
#include <cmath>

#include "linear.hpp"

namespace agf {

namespace {

// Rounding in eigenvectors, relative to the largest eigenvalue over the gap to the next. What is smaller in a change of
// frame stands for zero: multiplying a component that is e^{1000} times larger than the one it falls on, it would bury
// the truth.
constexpr double noise = 1e-13, most_noise = 1e-7;

// c (m, m) = a b^T or a b.
std::vector<double> product(std::size_t m, const std::vector<double>& a, const std::vector<double>& b, bool transpose) {
  std::vector<double> c(m * m, 0.0);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t k = 0; k < m; ++k) {
      if (transpose) {
        c[i * m + k] = dot(m, &a[i * m], &b[k * m]);
      } else {
        for (std::size_t j = 0; j < m; ++j) c[i * m + j] += a[i * m + k] * b[k * m + j];
      }
    }
  return c;
}

}  // namespace

void quadratic_form(const Problem& problem, Stats& stats, const Signal& residual, std::vector<double>& form) {
  const std::size_t m = problem.params();
  form.resize(m * m);
  const std::vector<double> anywhere(m, 1.0);
  problem.utility_hessian(anywhere.data(), 1, residual, form.data(), Shape{true, nullptr});
  ++stats.evaluations;
}

Modes modes(std::vector<double> form, Backend& backend, Stats& stats) {
  Modes out;
  out.rate.resize(static_cast<std::size_t>(std::lround(std::sqrt(static_cast<double>(form.size())))));
  out.frame = std::move(form);
  backend.eigen(out.rate.size(), out.frame.data(), out.rate.data());
  ++stats.hessians;
  return out;
}

Modes modes(const Problem& problem, Backend& backend, Stats& stats, const Signal& residual) {
  std::vector<double> form;
  quadratic_form(problem, stats, residual, form);
  return modes(std::move(form), backend, stats);
}

void adopt(Directions& directions, const Modes& modes, const std::vector<double>* motion, bool structured) {
  const std::size_t m = directions.params;
  std::vector<double> turn =
      product(m, motion ? product(m, modes.frame, *motion, false) : modes.frame, directions.frame, true);
  if (structured) {
    const double scale = std::max(std::abs(modes.rate.front()), std::abs(modes.rate.back()));
    double largest = 0;
    for (double e : turn) largest = std::max(largest, std::abs(e));
    for (std::size_t j = 0; j < m; ++j) {
      double square = 0, rayleigh = 0;
      for (std::size_t l = 0; l < m; ++l) {
        const double part = turn[l * m + j] * turn[l * m + j];
        square += part;
        rayleigh += modes.rate[l] * part;
      }
      rayleigh /= square;
      for (std::size_t l = 0; l < m; ++l) {
        const double gap = std::abs(modes.rate[l] - rayleigh);
        const double least = gap * most_noise > noise * scale ? noise * scale / gap : most_noise;
        if (std::abs(turn[l * m + j]) <= least * largest) turn[l * m + j] = 0;
      }
    }
  }
  directions.turn(turn, modes.frame);
}

Trajectory& unbegun(const Problem& problem, const State& state, Trajectory& path) {
  std::vector<double> theta;
  for (std::size_t i = 0; i < state.count; ++i)
    for (std::size_t e = 0; e < state.params; ++e)
      theta.push_back(std::exp(state.log_norm[i]) * state.direction[i * state.params + e]);
  const auto signal = problem.make_signal();
  path.points.push_back(
      {state.time, state.scaled_time, problem.residual(theta.data(), state.count, *signal), state.time});
  path.state = state;
  return path;
}

}  // namespace agf
