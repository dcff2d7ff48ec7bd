// Physical time and the scaled clock t / eta, eta = E[c_i], where c_i is the accumulated utility at which neuron i
// activates.
#pragma once

#include <algorithm>
#include <cmath>

#include "trajectory.hpp"

namespace agf {

// ln E[c_i] over the neurons below norm 1: c = -lambda (degree 2), (e^{(2-degree) lambda} - 1) / (degree - 2) beyond,
// by log-sum-exp. 0 where there is no such neuron.
inline double log_mean_threshold(const State& state, double degree) {
  double top = -infinity;
  std::size_t count = 0;
  auto log_c = [&](double lambda) {
    if (degree == 2) return std::log(-lambda);
    const double a = (degree - 2) * -lambda;
    return a + std::log(-std::expm1(-a)) - std::log(degree - 2);
  };
  for (std::size_t i = 0; i < state.count; ++i)
    if (state.log_norm[i] < 0) {
      top = std::max(top, log_c(state.log_norm[i]));
      ++count;
    }
  if (count == 0) return 0;
  double sum = 0;
  for (std::size_t i = 0; i < state.count; ++i)
    if (state.log_norm[i] < 0) sum += std::exp(log_c(state.log_norm[i]) - top);
  return top + std::log(sum / static_cast<double>(count));
}

inline void pass(State& state, double log_elapsed) {
  state.time += std::exp(log_elapsed);
  state.scaled_time += std::exp(log_elapsed - state.log_eta);
}

}  // namespace agf
