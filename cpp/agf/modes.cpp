#include "modes.hpp"

#include <algorithm>
#include <cmath>

#include "entries.hpp"
#include "linear.hpp"

namespace AGF_SPACE {

namespace {

// Rounding in eigenvectors, relative to the largest eigenvalue over the gap to the next. What is smaller in a change of
// frame stands for zero: multiplying a component that is e^{1000} times larger than the one it falls on, it would bury
// the truth.
AGF_TABLE double noise = 1e-13, most_noise = 1e-7;

// a b, (m, m) each.
AGF_CORE Array<double> product(std::size_t m, const Array<double>& a, const Array<double>& b) {
  Array<double> c(m * m, 0.0);
  const double* const left = a.data();
  add_product(m, m, m, [=](std::size_t i, std::size_t k) { return left[i * m + k]; }, b.data(), c.data());
  return c;
}

// a b^T.
AGF_CORE Array<double> product_transposed(std::size_t m, const Array<double>& a, const Array<double>& b) {
  Array<double> c(m * m);
  const double *const left = a.data(), *const right = b.data();
  double* const out = c.data();
  each_entry(m, m, [=](std::size_t i, std::size_t k) { out[i * m + k] = dot(m, left + i * m, right + k * m); });
  return c;
}

}  // namespace

AGF_CORE void quadratic_form(const Problem& problem, Stats& stats, const Signal& residual, Array<double>& form) {
  const std::size_t m = problem.params();
  form.resize(m * m);
  const Array<double> anywhere(m, 1.0);
  problem.utility_hessian(anywhere.data(), 1, residual, form.data(), Shape{true, nullptr});
  ++stats.evaluations;
}

AGF_CORE Modes modes(Array<double> form, Backend& backend, Stats& stats) {
  Modes out;
  out.rate.resize(static_cast<std::size_t>(std::lround(std::sqrt(static_cast<double>(form.size())))));
  out.frame = std::move(form);
  backend.eigen(out.rate.size(), out.frame.data(), out.rate.data());
  ++stats.hessians;
  return out;
}

AGF_CORE Modes modes(const Problem& problem, Backend& backend, Stats& stats, const Signal& residual) {
  Array<double> form;
  quadratic_form(problem, stats, residual, form);
  return modes(std::move(form), backend, stats);
}

AGF_CORE void adopt(Directions& directions, const Modes& modes, const Array<double>* motion, bool structured) {
  const std::size_t m = directions.params;
  Array<double> turn = product_transposed(m, motion ? product(m, modes.frame, *motion) : modes.frame, directions.frame);
  if (structured) {
    const double scale = std::max(std::abs(modes.rate.front()), std::abs(modes.rate.back()));
    const double* const rate = modes.rate.data();
    double* const entry = turn.data();
    const double most = largest(m * m, [=](std::size_t e) { return std::abs(entry[e]); });
    each_task(m, [=](std::size_t j) {
      double square = 0, rayleigh = 0;
      for (std::size_t l = 0; l < m; ++l) {
        const double part = entry[l * m + j] * entry[l * m + j];
        square += part;
        rayleigh += rate[l] * part;
      }
      rayleigh /= square;
      for (std::size_t l = 0; l < m; ++l) {
        const double gap = std::abs(rate[l] - rayleigh);
        const double least = gap * most_noise > noise * scale ? noise * scale / gap : most_noise;
        if (std::abs(entry[l * m + j]) <= least * most) entry[l * m + j] = 0;
      }
    });
  }
  directions.turn(turn, modes.frame);
}

AGF_CORE Trajectory& unbegun(const Problem& problem, const State& state, Trajectory& path) {
  const std::size_t m = state.params;
  Array<double> theta(state.count * m);
  const double *const log_norm = state.log_norm.data(), *const direction = state.direction.data();
  double* const to = theta.data();
  each_task(state.count, [=](std::size_t i) {
    const double length = std::exp(log_norm[i]);
    for (std::size_t e = 0; e < m; ++e) to[i * m + e] = length * direction[i * m + e];
  });
  const auto signal = problem.make_signal();
  path.points.push_back(
      {state.time, state.scaled_time, problem.residual(theta.data(), state.count, *signal), state.time});
  path.state = state;
  return path;
}

}  // namespace AGF_SPACE
