// Physical time and the scaled clock t / eta, eta = E[c_i], where c_i is the accumulated utility at which neuron i
// activates.
#pragma once

#include <algorithm>
#include <cmath>

#include "trajectory.hpp"

namespace AGF_SPACE {

// ln c of one neuron: c = -lambda (degree 2), (e^{(2-degree) lambda} - 1) / (degree - 2) beyond; c = 0 at norm 1.
AGF_CORE inline double log_threshold(double lambda, double degree) {
  if (lambda >= 0) return -infinity;
  if (degree == 2) return std::log(-lambda);
  const double a = (degree - 2) * -lambda;
  return a + std::log(-std::expm1(-a)) - std::log(degree - 2);
}

// ln E[c_i] over the neurons below norm 1, by log-sum-exp. 0 where there is no such neuron.
AGF_CORE inline double log_mean_threshold(const State& state, double degree) {
  double top = -infinity;
  std::size_t count = 0;
  for (std::size_t i = 0; i < state.count; ++i)
    if (state.log_norm[i] < 0) {
      top = std::max(top, log_threshold(state.log_norm[i], degree));
      ++count;
    }
  if (count == 0) return 0;
  double sum = 0;
  for (std::size_t i = 0; i < state.count; ++i)
    if (state.log_norm[i] < 0) sum += std::exp(log_threshold(state.log_norm[i], degree) - top);
  return top + std::log(sum / static_cast<double>(count));
}

AGF_CORE inline void pass(State& state, double log_elapsed) {
  state.time += std::exp(log_elapsed);
  state.scaled_time += std::exp(log_elapsed - state.log_eta);
}

}  // namespace AGF_SPACE
